"""The runbook: a section for each alert, and commands that work."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool, json_format, message_factory

from awoooi.approval.v1 import approval_service_pb2
from awoooi.incident.v1 import incident_service_pb2
from flywheel.stack.stack import Stack
from metrics_gateway.sources.reading import Reason
from tests.approval.schemas import approval_database, incident_database, rows
from tests.prometheus.alert_rules import ALERTS, rules

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, flags=re.DOTALL | re.MULTILINE))
SERVICES = {
    "incident": incident_service_pb2.DESCRIPTOR.services_by_name["IncidentService"],
    "approval": approval_service_pb2.DESCRIPTOR.services_by_name["ApprovalService"],
}


def blocks(language: str) -> list[str]:
    """The contents of the code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def calls() -> Iterator[tuple[str, str, str]]:
    """Service, method and request of every call, also of those within a sentence or a table."""
    inline = re.findall(r"`((?:incident|approval) [A-Z]\w* '[^`]*')`", TEXT)
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    for line in [*inline, *lines]:
        words = shlex.split(line)
        if words and words[0] in SERVICES:
            service, method, request = words
            yield service, method, request


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_every_alert_has_a_section_that_its_runbook_url_names(alert: str) -> None:
    document, _, anchor = rules()[alert]["annotations"]["runbook_url"].partition("#")
    assert document == "docs/runbook.md"
    # An anchor is the heading in lower case.
    assert anchor in {heading.lower() for heading in SECTIONS}
    assert re.findall(r"^### (.+)$", SECTIONS[alert], re.MULTILINE) == ["Meaning", "Diagnosis", "Mitigation"]


def test_every_section_is_about_an_alert_that_exists() -> None:
    assert SECTIONS.keys() == ALERTS


def test_every_link_within_the_runbook_has_a_target() -> None:
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert links
    headings = re.findall(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    assert links <= {heading.lower().replace(" ", "-") for heading in headings}


def test_every_failure_reason_of_a_source_has_a_row() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", SECTIONS["FlywheelSourceDown"], flags=re.MULTILINE))
    assert named == {reason.value for reason in Reason} - {"other"}


@pytest.mark.parametrize(("service", "method", "request_text"), sorted(set(calls())))
def test_every_call_names_a_method_and_fields_that_exist(
    service: str, method: str, request_text: str
) -> None:
    found = SERVICES[service].methods_by_name[method]
    pool = descriptor_pool.Default()
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName(found.input_type.full_name))
    json_format.Parse(request_text, message())


def statements() -> Iterator[tuple[str, str]]:
    """Each SQL statement with the database that its first line names."""
    for block in blocks("sql"):
        where, statement = block.split("\n", 1)
        for service in SERVICES:
            if service in where or "either" in where:
                yield service, statement


@pytest.mark.parametrize(("service", "statement"), list(statements()))
async def test_every_statement_runs_on_a_migrated_database(service: str, statement: str) -> None:
    databases = {"incident": incident_database, "approval": approval_database}
    database: AbstractAsyncContextManager[str] = databases[service]()
    async with database as url:
        await rows(url, f"EXPLAIN ANALYZE {statement}")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    anywhere = "127.0.0.1:0"
    running = Stack(
        tmp_path_factory.mktemp("stack"),
        incident_listen=anywhere,
        approval_listen=anywhere,
        gateway_listen=anywhere,
        intake_listen=anywhere,
        durable=False,
    )
    with running:
        yield running


def test_both_clients_define_the_same_shell_functions() -> None:
    grpcurl, buf = blocks("sh")[:2]
    assert re.findall(r"^(\w+)\(\)", grpcurl, re.MULTILINE) == re.findall(r"^(\w+)\(\)", buf, re.MULTILINE)


def test_every_command_without_a_placeholder_works(stack: Stack) -> None:
    _, definitions, *others = blocks("sh")
    commands = [line for block in others for line in block.splitlines() if "…" not in line]
    assert len(commands) > 10
    addresses = {
        "INCIDENT": stack.incident.address.connect_address,
        "APPROVAL": stack.approval.address.connect_address,
        "GATEWAY": stack.gateway.address.connect_address,
        "INTAKE": stack.intake.address.connect_address,
    }
    buf = shlex.quote(str(Path(sys.executable).with_name("buf")))
    script = "\n".join(
        [
            "set -eu",
            *(f"{name}={address}" for name, address in addresses.items()),
            definitions.replace(".venv/bin/buf", buf),
            *(f"echo {shlex.quote('+ ' + command)} >&2; {command}" for command in commands),
        ]
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert '"SERVING"' in done.stdout
