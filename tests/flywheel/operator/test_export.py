"""What is exported can be imported, and is then the same."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from google.protobuf import text_format

from awoooi.approval.v1 import approval_pb2
from flywheel.operator.views.import_lines import approval_line
from tests.approval.schemas import approval_database, incident_database, rows
from tests.databases import empty_database
from tests.flywheel.operator.deployment import Command, Deployment

LEFT_OUT = re.compile(
    r"flywheel: (\d+) approvals were left out: their incidents were reopened since they were resolved\n"
)
INCIDENTS = """SELECT incident_id, title, description, severity, state, fingerprint, labels::text, source, occurrence_count,
    create_time, last_seen_time, investigate_time, resolve_time, resolution_type, resolution_note, resolved_by, opened_by
    FROM incidents ORDER BY 1"""
APPROVALS = """SELECT approval_id, incident_id, action, risk, state, rationale, confidence, required_approvals,
    proposed_by, create_time, expire_time, decide_time, execute_time, finish_time, outcome_message, cancelled_by,
    incident_resolve_time FROM approvals ORDER BY 1"""
DECISIONS = (
    "SELECT approval_id, actor, kind, reason, decide_time, policy_rule FROM approval_decisions ORDER BY 1, 2"
)


@pytest.fixture
def copies() -> Iterator[Mapping[str, str]]:
    """Two databases with the services' schemas and nothing in them."""
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()

        async def create() -> Mapping[str, str]:
            return {
                "incident": await opened.enter_async_context(incident_database()),
                "approval": await opened.enter_async_context(approval_database()),
            }

        try:
            yield runner.run(create())
        finally:
            runner.run(opened.aclose())


def prepare(flywheel: Command) -> tuple[str, str]:
    """Incidents and approvals in every state that calls lead to; return one whose incident is to be reopened, and that."""

    def opened(title: str, *arguments: str) -> str:
        return flywheel.done(
            "incident", "open", title, "--severity", "high", "-o", "name", *arguments
        ).strip()

    def proposed(incident_id: str, action: str, *arguments: str) -> str:
        proposing = (
            "approval",
            "propose",
            incident_id,
            action,
            "--risk",
            "low",
            "--actor",
            "ai",
            "-o",
            "name",
        )
        return flywheel.done(*proposing, *arguments).strip()

    incident_id = opened(
        "exported ✓", "--label", "a=1", "--fingerprint", "exported", "--description", "one\ntwo"
    )
    flywheel.done("incident", "open", "exported ✓", "--severity", "high", "--fingerprint", "exported")
    flywheel.done("incident", "investigate", incident_id)
    superseded = proposed(incident_id, "NO_ACTION: wait", "--confidence", "0.5", "--rationale", "why\nso")
    rejected = proposed(incident_id, "NO_ACTION: wait", "--supersedes", superseded)
    flywheel.done("approval", "reject", rejected, "--yes", "--reason", "no")
    failing = proposed(incident_id, "please look", "--no-auto-execute")
    flywheel.done("approval", "approve", failing, "--yes")
    flywheel.done("approval", "execute", failing, "--yes")
    approved = proposed(incident_id, "RESTART deployment/api -n prod", "--no-auto-execute", "--quorum", "2")
    flywheel.done("approval", "approve", approved, "--yes")
    flywheel.done("approval", "approve", approved, "--yes", "--actor", "bob")
    resolved = opened("exported and resolved")
    flywheel.done("approval", "approve", proposed(resolved, "NO_ACTION: wait"), "--yes")
    reopened = opened("exported and reopened")
    outdated = proposed(reopened, "NO_ACTION: wait", "--no-auto-execute")
    flywheel.done("approval", "approve", outdated, "--yes")
    flywheel.done("approval", "execute", outdated, "--yes")
    return outdated, reopened


def number_left_out(messages: str) -> int:
    """How many approvals an export has left out, by what it wrote to standard error."""
    if not messages:
        return 0
    found = LEFT_OUT.fullmatch(messages)
    assert found, messages
    return int(found[1])


def test_an_export_is_imported_as_it_was(
    flywheel: Command,
    deployment: Deployment,
    copies: Mapping[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Other tests have reopened incidents, too.
    before = number_left_out(flywheel("export").err)
    left_out, reopened = prepare(flywheel)
    deployment.settle()
    flywheel.done("incident", "reopen", reopened, "--reason", "again", "--yes")
    file = tmp_path / "all.jsonl"
    exported = flywheel("export")
    assert exported.status == 0
    assert number_left_out(exported.err) == before + 1
    file.write_text(exported.out)
    lines = [json.loads(line) for line in exported.out.splitlines()]
    written = {line[f"{line['kind']}_id"] for line in lines}
    assert left_out not in written
    for service, url in copies.items():
        monkeypatch.setenv(f"{service.upper()}_DATABASE_URL", url)
    flywheel.done("import", str(file))
    for service, statements in {"incident": [INCIDENTS], "approval": [APPROVALS, DECISIONS]}.items():
        for statement in statements:
            expected = [row for row in deployment.sql(service, statement) if row[0] in written]
            assert expected
            assert asyncio.run(rows(copies[service], statement)) == expected


def test_an_export_since_a_time_has_the_incidents_of_its_approvals(
    flywheel: Command, deployment: Deployment
) -> None:
    incident_id = flywheel.done("incident", "open", "old", "--severity", "low", "-o", "name").strip()
    flywheel.done("approval", "propose", incident_id, "NO_ACTION: wait", "--risk", "low")
    deployment.sql(
        "incident",
        "UPDATE incidents SET create_time = now() - interval '9 days' WHERE incident_id = $1",
        incident_id,
    )
    lines = [json.loads(line) for line in flywheel.done("export", "--since", "1d").splitlines()]
    found = [line["kind"] for line in lines if line["incident_id"] == incident_id]
    assert found == ["incident", "approval"]
    only = flywheel.done("export", "--since", "1d", "--incidents-only")
    assert {json.loads(line)["kind"] for line in only.splitlines()} == {"incident"}
    assert incident_id not in only


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            "state: STATE_EXECUTING operation { kind: KIND_RESTART } execute_time { seconds: 2 } decide_time { seconds: 1 }",
            {"state": "INDETERMINATE", "finish_time": "1970-01-01T00:00:02Z"},
        ),
        (
            "state: STATE_EXECUTING operation { kind: KIND_NO_ACTION } execute_time { seconds: 2 } decide_time { seconds: 1 }",
            {"state": "APPROVED"},
        ),
        # One whose outcome was not known, closed by an operator.
        (
            'state: STATE_CANCELLED finish_time { seconds: 3 } execute_time { seconds: 2 } cancelled_by: "olga"',
            {"state": "CANCELLED", "cancelled_by": "olga"},
        ),
        # One whose incident was RESOLVED before it ran.
        ("state: STATE_CANCELLED", {"state": "CANCELLED", "cancelled_by": "service:approval"}),
        ('state: STATE_EXPIRED auto_execute: true outcome_message: "x"', {"state": "EXPIRED"}),
        ("state: STATE_PENDING auto_execute: true", {"state": "PENDING", "auto_execute": True}),
    ],
    ids=["executing", "noop", "closed", "resolved", "expired", "pending"],
)
def test_what_an_import_does_not_take_is_left_out(fields: str, expected: dict[str, object]) -> None:
    approval = text_format.Parse(fields, approval_pb2.Approval())
    line = approval_line(approval, "")
    times = {"execute_time", "decide_time", "kind"}
    assert {field: value for field, value in line.items() if field not in times} == expected


def test_migrate_brings_both_databases_to_the_newest_revision(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        try:
            for service in ("incident", "approval"):
                url = runner.run(opened.enter_async_context(empty_database()))
                monkeypatch.setenv(f"{service.upper()}_DATABASE_URL", url)
            assert command.done("migrate") == "incident: up to date\napproval: up to date\n"
            refused = command("migrate", "--service", "gateway")
            assert (refused.status, "there are incident, approval" in refused.err) == (2, True)
        finally:
            runner.run(opened.aclose())


def test_a_database_that_is_not_there_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ("INCIDENT", "APPROVAL"):
        monkeypatch.setenv(f"{service}_DATABASE_URL", "postgresql:///nothing?host=/nowhere")
    failed = command("migrate", "--service", "approval")
    assert failed.status == 1
    assert "the database of the approval service was not migrated" in failed.err
