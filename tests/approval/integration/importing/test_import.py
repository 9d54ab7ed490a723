"""Import of approvals into a real database: what is written, what is refused, and that it happens once."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from approval.importing.importer import ApprovalImporter
from tests.approval.schemas import contents, rows
from tests.callers import Approvals, Incidents, State, approvals_at
from tests.imports import (
    Imported,
    approval,
    approval_id,
    at,
    imported,
    incident,
    incident_id,
    pending_approval,
    write_lines,
)
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

Import = Callable[..., Awaitable[Imported]]
RESTART = "RESTART deployment/api -n prod"
YES = {"actor": "alice", "kind": "APPROVE"}


@pytest.fixture
def importing(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Import:
    """Imports lines into the test's database."""

    async def run(*lines: dict[str, Any] | bytes) -> Imported:
        path = write_lines(tmp_path / "lines.jsonl", *lines)
        return await imported(capsys, ApprovalImporter, "approval", database, path)

    return run


async def counters(url: str) -> dict[tuple[str, str], int]:
    found = await rows(
        url, "SELECT name, label, sum(value)::bigint FROM counters GROUP BY 1, 2 HAVING sum(value) <> 0"
    )
    return {(name, label): value for name, label, value in found}


def one_of_each() -> list[dict[str, Any]]:
    """An approval in every state that can be imported."""
    return [
        approval(1),
        approval(2, incident_resolve_time=at(70), outcome_message="seen"),
        approval(3, action=RESTART, executor="kubernetes", outcome_message="3 pods", execute_time=at(95)),
        approval(4, action=RESTART, state="FAILED", outcome_message="403"),
        approval(5, action="please have a look", state="FAILED"),
        approval(6, action=RESTART, state="INDETERMINATE"),
        pending_approval(7, required_approvals=2, decisions=[YES]),
        approval(8, state="APPROVED", finish_time=...),
        approval(
            9,
            state="REJECTED",
            finish_time=...,
            decisions=[{"actor": "bob", "kind": "REJECT", "reason": "no"}],
        ),
        approval(10, state="EXPIRED", finish_time=..., decisions=...),
        approval(11, state="CANCELLED", finish_time=..., decisions=..., cancelled_by="carol"),
    ]


async def test_every_imported_state_is_counted_and_logged_as_by_calls(
    database: str, importing: Import
) -> None:
    done = await importing(incident(1), *one_of_each())
    assert (done.succeeded, done.problems) == (True, [])
    # The NO_ACTION and the operation without an acknowledgement.
    assert done.counts == {"new": 11, "known": 0, "unacknowledged": 2}
    assert await counters(database) == {
        ("approvals", "SUCCEEDED"): 3,
        ("approvals", "FAILED"): 2,
        ("approvals", "INDETERMINATE"): 1,
        ("approvals", "PENDING"): 1,
        ("approvals", "APPROVED"): 1,
        ("approvals", "REJECTED"): 1,
        ("approvals", "EXPIRED"): 1,
        ("approvals", "CANCELLED"): 1,
        ("executions", "NOOP"): 2,
        ("executions", "SUCCEEDED"): 1,
        ("executions", "FAILED"): 2,
        ("executions", "INDETERMINATE"): 1,
        ("noop_resolutions", ""): 1,
    }
    assert await rows(
        database,
        "SELECT approval_id, target, succeeded, output, error, executor FROM auto_repair_executions ORDER BY 1",
    ) == [
        (approval_id(3), "prod/deployment/api", True, "3 pods", "", "kubernetes"),
        (approval_id(4), "prod/deployment/api", False, "", "403", "imported"),
    ]
    # Nothing is queued: neither an execution nor a resolve.
    assert await rows(database, "SELECT FROM outbox") == []


async def test_an_imported_approval_is_served_and_follows_the_same_rules(
    database: str, importing: Import, incident_service: RunningService, incidents: Incidents
) -> None:
    open_incident = await incidents.opened_id()
    lines = one_of_each()
    lines[6]["incident_id"] = lines[7]["incident_id"] = open_incident
    # Those that wait must not have expired by now.
    for line in lines[6:8]:
        line["incident_id"] = open_incident
    await importing(*lines)
    await rows(
        database,
        "UPDATE approvals SET expire_time = now() + interval '1 hour' WHERE state IN ('PENDING', 'APPROVED')",
    )
    variables = {
        "APPROVAL_INCIDENT_TARGET": incident_service.address,
        "APPROVAL_EXPIRE_EVERY": "24h",
        "APPROVAL_RECONCILE_EVERY": "24h",
    }
    async with (
        healthy_service("approval", database, variables=variables) as service,
        approvals_at(service.address) as approvals,
    ):
        listed = (await approvals.list().page()).approvals
        assert [each.approval_id for each in listed] == [approval_id(number) for number in range(11, 0, -1)]
        acknowledged = await approvals.get(approval_id(2))
        assert acknowledged.outcome_message == "seen"
        assert [decision.actor for decision in acknowledged.decisions] == ["alice"]
        # The second of two that had to agree.
        decided = await approvals.approve(approval_id(7), actor="bob")
        assert decided.state == State.STATE_APPROVED
        assert (await approvals.execute(approval_id(8))).approval.state == State.STATE_SUCCEEDED
        assert (await approvals.execute(approval_id(1))).already_executed
        found = (await approvals.reconcile(validate_only=True)).approval_ids
        assert list(found) == [approval_id(1), approval_id(3)]


async def test_an_import_is_idempotent_after_any_change_of_the_rows(database: str, importing: Import) -> None:
    lines = one_of_each()
    await importing(*lines)
    await rows(
        database, "UPDATE approvals SET incident_resolve_time = now() WHERE approval_id = $1", approval_id(1)
    )
    before = await contents(database)
    done = await importing(*reversed(lines))
    assert (done.succeeded, done.problems) == (True, [])
    assert done.counts == {"new": 0, "known": 11, "unacknowledged": 1}
    assert await contents(database) == before


@pytest.mark.parametrize(
    ("lines", "problems"),
    [
        pytest.param(
            [approval(1), approval(1)], [(2, "approval_id", "is the same as in {file}:1")], id="an id twice"
        ),
        pytest.param(
            [approval(90)],
            [(1, "approval_id", "there is an approval with this id that was not imported")],
            id="an id that a call took",
        ),
        pytest.param(
            [approval(91, rationale="another")],
            [(1, "approval_id", "was imported before with other content")],
            id="other content than before",
        ),
        pytest.param(
            [approval(1), b"nonsense", approval(2, state="DONE", risk="NONE"), incident(1, title="")],
            [
                (2, "", "is not JSON"),
                (3, "risk", "expected LOW"),
                (3, "state", "expected PENDING"),
            ],
            id="several, but not those of incidents",
        ),
    ],
)
async def test_an_invalid_line_is_named_and_nothing_is_imported(
    database: str,
    importing: Import,
    tmp_path: Path,
    lines: Sequence[dict[str, Any] | bytes],
    problems: Sequence[tuple[int, str, str]],
) -> None:
    assert (await importing(approval(91))).succeeded
    await rows(
        database,
        """INSERT INTO approvals (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, hook,
        parse_error, action_hash, risk, rationale, required_approvals, auto_execute, proposed_by, incident_verified,
        expire_time, content_hash) VALUES ($1, $2, 'NO_ACTION', 'NO_ACTION', '', '', '', '', '', '', 'LOW', '', 1, true,
        'ai', true, now(), '')""",
        approval_id(90),
        incident_id(90),
    )
    before = await contents(database)
    done = await importing(*lines)
    assert not done.succeeded
    found = sorted(done.problems)
    assert [(line, field) for line, field, _ in found] == [(line, field) for line, field, _ in problems]
    for (_, _, said), (_, _, reason) in zip(found, problems, strict=True):
        assert said.startswith(reason.format(file=tmp_path / "lines.jsonl"))
    assert await contents(database) == before


async def test_an_import_leaves_the_counters_that_the_same_calls_would(
    importing: Import, database: str, incident_service: RunningService, incidents: Incidents
) -> None:
    """One acknowledged NO_ACTION, one rejected, one pending: by calls, then the same by an import on top."""
    variables = {"APPROVAL_INCIDENT_TARGET": incident_service.address}
    async with (
        healthy_service("approval", database, variables=variables) as service,
        approvals_at(service.address) as approvals,
    ):
        await _by_calls(approvals, incidents)
    by_calls = await counters(database)
    await importing(
        approval(1, incident_resolve_time=at(37)),
        approval(2, state="REJECTED", finish_time=..., decisions=[{"actor": "bob", "kind": "REJECT"}]),
        pending_approval(3),
    )
    assert await counters(database) == {key: 2 * value for key, value in by_calls.items()}


async def _by_calls(approvals: Approvals, incidents: Incidents) -> None:
    executed = await approvals.executed(await incidents.opened_id())
    await approvals.until_delivered(executed.approval_id)
    await approvals.reject((await approvals.proposed(await incidents.opened_id())).approval_id)
    await approvals.proposed(await incidents.opened_id())
