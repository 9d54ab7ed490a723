"""Every way in which a command fails: what it says, at which flag, what to do, and the exit status."""

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from flywheel.certificates.files import Request, make
from tests.credentials import TokenFile
from tests.flywheel.operator.deployment import Command, Deployment
from tests.services import RunningService

_PEOPLE = {"vera": "viewer", "olga": "operator", "mallory": "viewer"}


@dataclass(frozen=True)
class Protected:
    """An incident service that asks for a token, over TLS."""

    address: str
    ca_file: Path
    tokens: Mapping[str, str]

    def context(self, name: str, token: str = "") -> list[str]:
        """The arguments that add a context; without a token the caller has none."""
        arguments = ["context", "add", name, "--incident", self.address, "--approval", self.address]
        arguments += ["--ca-file", str(self.ca_file)]
        if not token:
            return arguments
        file = self.ca_file.with_name(f"{name}.token")
        file.write_text(token)
        file.chmod(0o600)
        return [*arguments, "--token-file", str(file)]


@pytest.fixture(scope="module")
def protected(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protected]:
    """A second process over the deployment's database."""
    folder = tmp_path_factory.mktemp("protected")
    make(
        folder / "certs",
        Request({"incident": ("127.0.0.1",)}, "awoooi", timedelta(days=2), timedelta(days=9)),
    )
    file = TokenFile(folder / "tokens.json")
    # Before the service reads them: it looks for others once in a second.
    tokens = {name: file.add(name, role) for name, role in _PEOPLE.items()}
    file.revoke("mallory")
    service = RunningService(
        "incident",
        deployment.services["incident"].database_url,
        variables={
            "INCIDENT_TLS_CERT_FILE": str(folder / "certs/incident/tls.crt"),
            "INCIDENT_TLS_KEY_FILE": str(folder / "certs/incident/tls.key"),
            "INCIDENT_TOKENS_FILE": str(file.path),
        },
    )
    try:
        yield Protected(service.address, folder / "certs/ca.crt", tokens)
    finally:
        service.kill()


@pytest.fixture(scope="module")
def nowhere() -> Iterator[str]:
    """An address at which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def test_a_service_that_is_not_there_is_named_with_its_address_and_the_remedy(
    command: Command, nowhere: str
) -> None:
    command.done("context", "add", "prod", "--incident", "127.0.0.1:1", "--approval", nowhere)
    failed = command("approval", "list", "--context", "prod")
    assert failed.status == 3
    assert f"flywheel: the approval service at {nowhere} cannot be reached: " in failed.err
    assert "flywheel context show prod has the addresses" in failed.err


def test_the_local_stack_that_is_not_there_is_to_be_started(
    command: Command, monkeypatch: pytest.MonkeyPatch, nowhere: str
) -> None:
    monkeypatch.setenv("FLYWHEEL_INCIDENT", nowhere)
    failed = command("incident", "list")
    assert (failed.status, "start it with flywheel up" in failed.err) == (3, True)
    monkeypatch.setenv("FLYWHEEL_INCIDENT", "nowhere")
    failed = command("incident", "list")
    assert (failed.status, "FLYWHEEL_INCIDENT is 'nowhere', which is not host:port" in failed.err) == (
        2,
        True,
    )


def test_a_caller_without_credentials_is_unauthenticated(command: Command, protected: Protected) -> None:
    command.done(*protected.context("prod"))
    failed = command("incident", "list", "--context", "prod")
    assert failed.status == 4
    assert f"the incident service at {protected.address} does not know who is calling" in failed.err
    assert (
        "flywheel: the context prod has no credentials: flywheel context add, with --token-file" in failed.err
    )


def test_a_revoked_token_is_unauthenticated(command: Command, protected: Protected) -> None:
    command.done(*protected.context("prod", protected.tokens["mallory"]))
    failed = command("incident", "list", "--context", "prod")
    assert (failed.status, "flywheel token list shows" in failed.err) == (4, True)


def test_a_missing_role_is_named(command: Command, protected: Protected) -> None:
    command.done(*protected.context("prod", protected.tokens["vera"]))
    opening = ("incident", "open", "x", "--severity", "low", "--context", "prod")
    failed = command(*opening)
    assert failed.status == 4
    assert "this call needs one of the roles: detector, intake, " in failed.err
    assert "flywheel token create NAME --role ROLE" in failed.err
    as_json = json.loads(command(*opening, "--json").err)["error"]
    assert (as_json["code"], as_json["reason"]) == ("PERMISSION_DENIED", "ROLE_MISSING")
    assert "operator" in as_json["metadata"]["roles"]


def test_over_tls_and_with_a_token_the_identity_is_the_tokens(command: Command, protected: Protected) -> None:
    command.done(*protected.context("prod", protected.tokens["olga"]))
    opened = command.done("incident", "open", "x", "--severity", "low", "--context", "prod", "--json")
    assert json.loads(opened)["incident"]["opened_by"] == "olga"


def test_a_server_of_another_authority_is_not_trusted(
    command: Command, protected: Protected, tmp_path: Path
) -> None:
    make(tmp_path / "other", Request({"incident": ("x",)}, "awoooi", timedelta(days=2), timedelta(days=9)))
    arguments = protected.context("prod", protected.tokens["olga"])
    arguments[arguments.index("--ca-file") + 1] = str(tmp_path / "other/ca.crt")
    command.done(*arguments)
    failed = command("incident", "list", "--context", "prod", "--timeout", "2")
    assert (failed.status, "cannot be reached" in failed.err) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "status", "message", "advice"),
    [
        (
            ("incident", "show", "INC-20200101-ABCDEF"),
            5,
            "INC-20200101-ABCDEF: There is no incident with this id.",
            "flywheel incident list shows what there is",
        ),
        (
            ("approval", "show", "APR-20200101-ABCDEF"),
            5,
            "APR-20200101-ABCDEF: There is no approval with this id.",
            "flywheel approval list shows what there is",
        ),
        (("incident", "show", "INC-1"), 2, "INCIDENT: must be INC-YYYYMMDD- and", ""),
        (("incident", "list", "--fingerprint", "a\x00b"), 2, "--fingerprint: must not contain", ""),
        (
            ("incident", "open", "x" * 501, "--severity", "low"),
            2,
            "TITLE: must be at most 500 characters",
            "",
        ),
        (("incident", "open", "x", "--severity", "low", "--request-id", "a b"), 2, "--request-id: ", ""),
        (("incident", "open", "x", "--severity", "low", "--label", f"{'k' * 300}=v"), 2, "--label: ", ""),
        (("approval", "list", "--incident", "x"), 2, "--incident: must be INC-", ""),
        (("knowledge", "search", " "), 2, "QUERY: ", ""),
        (("effect", "retry", "no/such/1"), 5, "no/such/1: ", "flywheel effect list shows what there is"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_a_refused_call_names_the_flag_or_the_id_and_the_remedy(
    flywheel: Command, arguments: tuple[str, ...], status: int, message: str, advice: str
) -> None:
    failed = flywheel(*arguments)
    assert (failed.status, failed.out) == (status, "")
    assert f"flywheel: {message}" in failed.err
    assert advice in failed.err
    as_json = json.loads(flywheel(*arguments, "--json").err)["error"]
    assert message in as_json["message"]
    assert as_json["exit_status"] == status
    if status == 2:
        assert as_json["fields"][0]["field"] == message.partition(":")[0]


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (("incident", "list", "--since", "yesterday"), "--since"),
        (("incident", "list", "--limit", "-1"), "--limit"),
        (("incident", "list", "--state", "closed"), "--state"),
        (("incident", "list", "--label", "service"), "--label"),
        (("incident", "list", "--label", "a=1", "--label", "a=2"), "--label"),
        (("incident", "list", "-o", "yaml"), "--output"),
        (("incident", "list", "--timeout", "0"), "--timeout"),
        (("incident", "open", "x"), "--severity"),
        (("approval", "propose", "INC-20260507-0000A1", "x", "--risk", "low", "--ttl", "soon"), "--ttl"),
        (("delivery", "dismiss", "1"), "--reason"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_a_wrong_value_names_its_flag_before_anything_is_called(
    command: Command, arguments: tuple[str, ...], flag: str
) -> None:
    failed = command(*arguments)
    assert (failed.status, failed.out) == (2, "")
    assert flag in failed.err.partition("Error: ")[2]


def test_a_change_since_it_was_shown_is_not_overwritten(flywheel: Command) -> None:
    incident_id = flywheel.done("incident", "open", "x", "--severity", "low", "-o", "name").strip()

    class Person:
        """Somebody else is faster than this one."""

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            flywheel_now("incident", "investigate", incident_id)
            return "y\n"

    from awoooi.client import SyncIncidentClient  # noqa: PLC0415 - as the other person

    address = json.loads(flywheel.done("context", "show", "--json"))["incident"]

    def flywheel_now(*_arguments: str) -> None:
        with SyncIncidentClient(address, actor="bob") as client:
            client.start_investigation(incident_id)

    failed = flywheel("incident", "resolve", incident_id, stdin=Person())  # type: ignore[arg-type]
    assert failed.status == 6
    assert "it was changed meanwhile: look at it again, and decide again" in failed.err
