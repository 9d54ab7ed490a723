"""Contexts: where they are kept, who may read them, and which one a command uses."""

import io
import json
import stat
from pathlib import Path

import pytest

from flywheel.doctor.deployment import Deployment
from flywheel.operator.contexts.secrets import read_secret
from tests.flywheel.operator.deployment import Command

ADDRESSES = ("--incident", "127.0.0.1:1", "--approval", "127.0.0.1:2")
REMOTE = ("--incident", "incident.example:443", "--approval", "approval.example:443")


def test_without_any_context_the_addresses_are_those_of_flywheel_up(command: Command) -> None:
    shown = json.loads(command.done("context", "show", "--json"))
    assert (shown["name"], shown["incident"], shown["approval"]) == (
        *("local", "127.0.0.1:50051"),
        "127.0.0.1:50052",
    )


def test_the_option_comes_before_the_variable_and_that_before_the_chosen_one(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chosen", "of-variable", "of-option"):
        command.done("context", "add", name, *ADDRESSES)
    command.done("context", "use", "chosen")

    def failing(*arguments: str) -> str:
        return command("incident", "list", "--timeout", "30", *arguments).err

    assert "context show chosen" in failing()
    monkeypatch.setenv("FLYWHEEL_CONTEXT", "of-variable")
    assert "context show of-variable" in failing()
    assert "context show of-option" in failing("--context", "of-option")


def test_what_is_written_is_for_its_owner_alone(command: Command, tmp_path: Path) -> None:
    command.done("context", "add", "prod", *ADDRESSES)
    command.done("context", "use", "prod")
    written = [path for path in (tmp_path / "flywheel").rglob("*") if path.is_file()]
    assert {path.name for path in written} == {"prod.json", "current"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert stat.S_IMODE((tmp_path / "flywheel" / "contexts").stat().st_mode) == 0o700


def test_a_token_from_standard_input_is_kept_for_its_owner_alone_until_the_context_is_removed(
    command: Command, tmp_path: Path
) -> None:
    added = command(
        "context", "add", "prod", *ADDRESSES, "--token-file", "-", stdin=io.StringIO("fw_secret\n")
    )
    assert added.status == 0, added
    kept = tmp_path / "flywheel" / "tokens" / "prod"
    assert kept.read_text() == "fw_secret\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    shown = command.done("context", "show", "prod") + command.done("context", "list")
    assert "fw_secret" not in shown
    command.done("context", "remove", "prod", "--yes")
    assert not kept.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_token_that_others_may_read_or_write_is_refused(
    command: Command, tmp_path: Path, mode: int
) -> None:
    token = tmp_path / "token"
    token.write_text("fw_secret\n")
    token.chmod(mode)
    refused = command("context", "add", "prod", *ADDRESSES, "--token-file", str(token))
    assert refused.status == 1
    assert f"{token} may be read by others: its mode is {mode:04o}" in refused.err
    assert f"chmod 600 {token}" in refused.err
    token.chmod(0o600)
    command.done("context", "add", "prod", *ADDRESSES, "--token-file", str(token))
    # Also when it is opened to others later.
    token.chmod(mode)
    refused = command("incident", "list", "--context", "prod")
    assert (refused.status, "may be read by others" in refused.err) == (1, True)


def test_a_key_and_a_context_that_others_may_read_are_refused(command: Command, tmp_path: Path) -> None:
    for name in ("key", "certificate"):
        (tmp_path / name).write_text("PEM")
    files = ("--cert-file", str(tmp_path / "certificate"), "--key-file", str(tmp_path / "key"))
    refused = command("context", "add", "prod", *ADDRESSES, *files)
    assert "key may be read by others" in refused.err
    command.done("context", "add", "prod", *ADDRESSES)
    (tmp_path / "flywheel" / "contexts" / "prod.json").chmod(0o644)
    refused = command("context", "show", "prod")
    assert "prod.json may be read by others" in refused.err


@pytest.mark.parametrize("content", ["", "two words", "fw_é"])
def test_a_file_without_a_token_is_refused(command: Command, tmp_path: Path, content: str) -> None:
    token = tmp_path / "token"
    token.write_text(content)
    token.chmod(0o600)
    refused = command("context", "add", "prod", *ADDRESSES, "--token-file", str(token))
    assert (refused.status, "holds no token" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("target", "is_refused"),
    [
        ("incident.example:443", True),
        ("dns:///incident.example:443", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", True),
        ("localhost:1", False),
        ("[::1]:1", False),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", False),
        ("unix:/run/incident", False),
    ],
)
def test_a_token_is_sent_in_plain_text_to_this_machine_only(
    command: Command, tmp_path: Path, target: str, *, is_refused: bool
) -> None:
    token = tmp_path / "token"
    token.write_text("fw_secret")
    token.chmod(0o600)
    targets = ("--incident", target, "--approval", "127.0.0.1:2", "--token-file", str(token))
    added = command("context", "add", "prod", *targets)
    assert (added.status == 2) is is_refused, added
    assert ("in plain text" in added.err) is is_refused
    command.done("context", "add", "over-tls", *targets, "--tls")


def test_the_name_of_the_actor_is_refused_beside_credentials(command: Command, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("fw_secret")
    token.chmod(0o600)
    command.done("context", "add", "prod", *REMOTE, "--tls", "--token-file", str(token))
    refused = command("incident", "list", "--context", "prod", "--actor", "bob")
    assert (refused.status, "--actor: in the context prod" in refused.err) == (2, True)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"name": "prod"}', '{"name": "prod", "incident": "x", "more": 1}']
)
def test_a_file_that_is_no_context_is_named(command: Command, tmp_path: Path, content: str) -> None:
    command.done("context", "add", "prod", *ADDRESSES)
    path = tmp_path / "flywheel" / "contexts" / "prod.json"
    path.write_text(content)
    assert f"{path} was not written by flywheel context" in command("context", "show", "prod").err


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "x" * 64])
def test_a_name_is_never_a_path(command: Command, name: str) -> None:
    assert command("context", "add", name, *ADDRESSES).status == 2
    assert command("context", "show", name).status in (0, 2)


def test_a_secret_is_a_regular_file(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot be read"):
        read_secret(tmp_path / "missing")
    with pytest.raises(Exception, match="cannot be read"):
        read_secret(tmp_path)


def test_the_doctor_takes_what_no_flag_gives_from_a_context(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    examined: list[Deployment] = []

    def run(deployment: Deployment, **_flags: object) -> int:
        examined.append(deployment)
        return 0

    monkeypatch.setattr("flywheel.doctor.examination.run", run)
    token = tmp_path / "token"
    token.write_text("fw_secret")
    token.chmod(0o600)
    command.done("context", "add", "prod", *REMOTE, "--tls", "--token-file", str(token))
    command.done("doctor", "--context", "prod", "--approval", "other.example:443", "--timeout", "5")
    assert examined == [
        Deployment("incident.example:443", "other.example:443", token_file=token, timeout=5.0, tls=True)
    ]
    assert examined[0].is_encrypted
    assert command("doctor", "--context", "nowhere").status == 2


def test_the_doctor_is_for_the_deployment_of_every_other_command(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    examined: list[tuple[str, str, str]] = []

    def run(deployment: Deployment, **_flags: object) -> int:
        examined.append((deployment.incident, deployment.approval, deployment.gateway))
        return 0

    monkeypatch.setattr("flywheel.doctor.examination.run", run)
    local = ("127.0.0.1:50051", "127.0.0.1:50052", "127.0.0.1:9464")
    token = tmp_path / "token"
    token.write_text("fw_secret")
    token.chmod(0o600)
    command.done("context", "add", "chosen", *ADDRESSES, "--token-file", str(token))
    command.done("context", "add", "other", *REMOTE)
    command.done("doctor")
    command.done("context", "use", "chosen")
    command.done("doctor")
    command.done("doctor", "--incident", "127.0.0.1:3")
    refused = command("doctor", "--incident", "incident.example:443")
    assert (refused.status, "in plain text" in refused.err) == (2, True)
    command.done("doctor", "--context", "local")
    monkeypatch.setenv("FLYWHEEL_CONTEXT", "other")
    # As for other commands, it is an address of the context local.
    monkeypatch.setenv("FLYWHEEL_INCIDENT", "127.0.0.1:9")
    monkeypatch.setenv("FLYWHEEL_GATEWAY", "gateway.example:9464")
    command.done("doctor")
    assert examined == [
        local,
        ("127.0.0.1:1", "127.0.0.1:2", ""),
        ("127.0.0.1:3", "127.0.0.1:2", ""),
        local,
        ("incident.example:443", "approval.example:443", "gateway.example:9464"),
    ]
