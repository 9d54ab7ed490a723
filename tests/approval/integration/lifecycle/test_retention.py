"""Retention: approvals that ended long ago are removed with what belongs to them, and none that still counts."""

import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from approval.importing.importer import ApprovalImporter
from approval.lifecycle.retention import Retention
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.retention import Removal, remove_batch
from tests.approval import schemas
from tests.approval.integration.lifecycle.old_approvals import insert_job, insert_old
from tests.audit_trail import problems, record
from tests.callers import Approvals, Incidents, State, approvals_at
from tests.eventually import eventually
from tests.explained import rows_read
from tests.imports import approval, approval_id, at, imported, pending_approval, write_lines
from tests.rpc_errors import refused
from tests.services import RunningService, healthy_service

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEEP = timedelta(days=30)
DAY = timedelta(days=1)
ENDED = ("REJECTED", "EXPIRED", "CANCELLED", "SUCCEEDED", "FAILED")
UNENDED = ("PENDING", "APPROVED", "EXECUTING", "INDETERMINATE")


@pytest_asyncio.fixture(loop_scope="session")
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
def transactions(engine: AsyncEngine) -> Transactions:
    return Transactions(engine, Outbox())


@pytest_asyncio.fixture(loop_scope="session")
async def rows(database: str) -> "AsyncIterator[Rows]":
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


def retention(**options: Any) -> Retention:
    return Retention(**({"keep": KEEP, "keep_finished": DAY} | options))


async def remove_all(transactions: Transactions, **options: Any) -> Sequence[Removal]:
    """Remove as a process does, until there is no more; returns the batches."""
    mine = retention(**options)
    batches = [await remove_batch(transactions, mine.remove_next)]
    while batches[-1].has_more:
        batches.append(await remove_batch(transactions, mine.remove_next))
    return batches


async def left(rows: "Rows") -> set[str]:
    return {row["approval_id"] for row in await rows.fetch("SELECT approval_id FROM approvals")}


async def test_approvals_that_ended_long_ago_are_removed_with_their_rows_and_leave_their_state_s_count(
    transactions: Transactions, rows: "Rows", database: str
) -> None:
    old = {await insert_old(rows, days_ago=31, state=state) for state in ENDED}
    young = {await insert_old(rows, days_ago=29.9, state=state) for state in ENDED}
    (batch,) = await remove_all(transactions)
    assert batch == Removal(len(old), has_more=False)
    assert await left(rows) == young
    for table in ("approval_decisions", "auto_repair_executions"):
        found = await rows.fetch(f"SELECT DISTINCT approval_id FROM {table}")  # noqa: S608 - constants
        assert {row["approval_id"] for row in found} <= young
    counts = await rows.fetch("SELECT label, sum(value)::int AS value FROM counters GROUP BY label")
    assert {row["label"]: row["value"] for row in counts} == dict.fromkeys(ENDED, 1)
    removal = await record(database, operation="background/retention")
    assert set(removal["targets"].split()) == old
    assert await problems(database, "approval") == []


@pytest.mark.parametrize("state", UNENDED)
async def test_an_approval_that_may_yet_change_stays(
    transactions: Transactions, rows: "Rows", state: str
) -> None:
    kept = await insert_old(rows, days_ago=1000, state=state)
    assert [batch.removed for batch in await remove_all(transactions)] == [0]
    assert await left(rows) == {kept}


async def test_an_approval_whose_resolve_is_not_acknowledged_stays(
    transactions: Transactions, rows: "Rows"
) -> None:
    kept = await insert_old(rows, days_ago=1000, acknowledged=False)
    await remove_all(transactions)
    assert await left(rows) == {kept}
    await rows.execute("UPDATE approvals SET incident_resolve_time = update_time")
    await remove_all(transactions)
    assert await left(rows) == set()


@pytest.mark.parametrize("job_state", ["PENDING", "PARKED"])
@pytest.mark.parametrize(
    ("topic", "key"),
    [
        ("incident.timeline", "{}/cancelled/2026-01-01T00:00:00Z"),
        ("approval.execute", "{}"),
        ("one.of.another.version", "{}/x"),
    ],
)
async def test_an_approval_with_a_job_that_waits_or_is_dead_lettered_stays(
    transactions: Transactions, rows: "Rows", topic: str, key: str, job_state: str
) -> None:
    kept, other = [await insert_old(rows, days_ago=90, state="CANCELLED") for _ in range(2)]
    await insert_job(rows, topic, key.format(kept), state=job_state)
    await insert_job(rows, topic, key.format(other), state="DONE")
    await remove_all(transactions)
    assert await left(rows) == {kept}
    await rows.execute("UPDATE outbox SET state = 'DONE'")
    await remove_all(transactions)
    assert await left(rows) == set()


async def test_with_more_open_jobs_than_are_read_nothing_is_removed(
    transactions: Transactions, rows: "Rows"
) -> None:
    kept = await insert_old(rows, days_ago=90)
    for number in range(4):
        await insert_job(rows, "incident.timeline", f"APR-{number}/x")
    assert [batch.removed for batch in await remove_all(transactions, max_open=3)] == [0]
    assert await left(rows) == {kept}
    await remove_all(transactions, max_open=4)
    assert await left(rows) == set()


async def test_an_approval_of_an_unknown_incident_stays_until_it_is_accepted_as_lost(
    transactions: Transactions, rows: "Rows"
) -> None:
    kept = await insert_old(rows, days_ago=90)
    await rows.execute("UPDATE approvals SET incident_unknown_time = update_time")
    await remove_all(transactions)
    assert await left(rows) == {kept}
    await rows.execute("UPDATE approvals SET incident_unknown_accepted_by = 'operator'")
    await remove_all(transactions)
    assert await left(rows) == set()


@pytest.mark.parametrize(
    ("keep_finished", "hours_ago", "stays"),
    [
        pytest.param(DAY, 23, True, id="in the window of the success rate"),
        pytest.param(DAY, 25, False, id="after it"),
        pytest.param(timedelta(hours=48), 25, True, id="in the cool-down of its target"),
    ],
)
async def test_repairs_that_are_still_looked_at_stay_whatever_the_retention(
    transactions: Transactions, rows: "Rows", keep_finished: timedelta, hours_ago: float, stays: bool
) -> None:
    repair = await insert_old(rows, days_ago=hours_ago / 24)
    unexecuted = await insert_old(rows, days_ago=hours_ago / 24, state="REJECTED")
    await remove_all(transactions, keep=timedelta(minutes=1), keep_finished=keep_finished)
    assert (repair in await left(rows)) == stays
    assert unexecuted not in await left(rows)


@pytest.mark.parametrize(
    ("recovery", "acknowledged", "hours_ago", "stays"),
    [
        pytest.param("PENDING", False, 2_000, True, id="not known whether it helped"),
        pytest.param("NOT_RECOVERED", False, 25, False, id="did not help: nothing will be acknowledged"),
        pytest.param("NOT_RECOVERED", False, 23, True, id="found in the window of the recovery rate"),
        pytest.param("VERIFIED", False, 2_000, True, id="helped, not acknowledged"),
        pytest.param("VERIFIED", True, 25, False, id="helped"),
        pytest.param("VERIFIED", True, 23, True, id="helped in the window of the recovery rate"),
        pytest.param("UNVERIFIED", False, 2_000, True, id="not verified, not acknowledged"),
    ],
)
async def test_a_recovery_stays_as_long_as_it_counts(
    transactions: Transactions,
    rows: "Rows",
    recovery: str,
    *,
    acknowledged: bool,
    hours_ago: float,
    stays: bool,
) -> None:
    repair = await insert_old(rows, days_ago=90, acknowledged=acknowledged)
    await rows.execute(
        "UPDATE approvals SET recovery = $2, recovery_time = now() - make_interval(secs => $3::float8 * 3600)"
        " WHERE approval_id = $1",
        repair,
        recovery,
        hours_ago,
    )
    await remove_all(transactions, keep=timedelta(minutes=1))
    assert (repair in await left(rows)) == stays


async def test_a_batch_is_bounded_and_what_stays_is_stepped_over(
    transactions: Transactions, rows: "Rows"
) -> None:
    kept = {await insert_old(rows, days_ago=100 + days, state="INDETERMINATE") for days in range(7)}
    for days in range(5):
        await insert_old(rows, days_ago=90 - days)
    batches = await remove_all(transactions, limit=2, max_read=4)
    assert max(batch.removed for batch in batches) == 2
    assert sum(batch.removed for batch in batches) == 5
    assert await left(rows) == kept
    # The next period begins with the oldest again.
    mine = retention(limit=2, max_read=4)
    while (await remove_batch(transactions, mine.remove_next)).has_more:
        pass
    await rows.execute("UPDATE approvals SET state = 'CANCELLED'")
    assert (await remove_batch(transactions, mine.remove_next)).removed == 2


async def test_a_batch_reads_no_more_rows_when_more_is_stored(engine: AsyncEngine, rows: "Rows") -> None:
    async def run(connection: AsyncConnection) -> object:
        transaction = Transaction(connection)
        return await retention(limit=5, max_read=10).remove_next(transaction)

    async def store(count: int) -> None:
        for _ in range(count):
            await insert_old(rows, days_ago=60, acknowledged=False)
            await insert_old(rows, days_ago=1)
        await rows.execute("ANALYZE")

    await store(50)
    before = await rows_read(engine, run)
    await store(250)
    after = await rows_read(engine, run)
    assert after == before
    assert sum(after.values()) < 100


async def test_one_process_at_a_time_removes(transactions: Transactions, rows: "Rows") -> None:
    await insert_old(rows, days_ago=90)

    async def while_another_tries(transaction: Transaction) -> Removal:
        other = await remove_batch(transactions, retention().remove_next)
        assert other == Removal(0, has_more=False)
        return await retention().remove_next(transaction)

    assert (await remove_batch(transactions, while_another_tries)).removed == 1


async def test_an_approval_that_is_locked_or_changes_meanwhile_stays(
    transactions: Transactions, rows: "Rows", database: str
) -> None:
    locked, changed, other = [
        await insert_old(rows, days_ago=90 - number, state="FAILED") for number in range(3)
    ]

    class ChangedAfterTheRead(Retention):
        async def _read(self, connection: AsyncConnection) -> Any:
            found = await super()._read(connection)
            await rows.execute("UPDATE approvals SET version = version + 1 WHERE approval_id = $1", changed)
            return found

    at_work = await asyncpg.connect(database)
    try:
        async with at_work.transaction():
            await at_work.execute("SELECT FROM approvals WHERE approval_id = $1 FOR UPDATE", locked)
            mine = ChangedAfterTheRead(keep=KEEP, keep_finished=DAY)
            assert (await remove_batch(transactions, mine.remove_next)).removed == 1
    finally:
        await at_work.close()
    assert other not in await left(rows)
    assert await left(rows) == {locked, changed}


async def test_a_service_with_a_retention_removes_and_its_counters_and_imports_know_it_still(
    database: str, rows: "Rows", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_lines(
        tmp_path / "lines.jsonl",
        approval(1, incident_resolve_time=at(90)),
        pending_approval(
            2, state="REJECTED", decide_time=at(70), decisions=[{"actor": "bob", "kind": "REJECT"}]
        ),
    )
    assert (await imported(capsys, ApprovalImporter, "approval", database, path)).counts["new"] == 2
    for _ in range(230):
        await insert_old(rows, days_ago=40)
    young = await insert_old(rows, days_ago=1)
    # Nothing listens there: a retention needs no incident service.
    variables = {"APPROVAL_INCIDENT_TARGET": "127.0.0.1:1", "APPROVAL_RECONCILE_EVERY": "24h"}
    async with healthy_service("approval", database, variables=variables) as service:
        # At its start a retention would have removed them.
        assert len(await left(rows)) == 233
        async with approvals_at(service.address) as approvals:
            before = (await approvals.stats()).executions
    async with healthy_service(
        "approval", database, variables=variables | {"APPROVAL_RETENTION": "30d"}
    ) as service:
        await service.logged("approvals_removed", approvals=32)
        assert await left(rows) == {young}
        assert [event["approvals"] for event in service.events("approvals_removed")] == [100, 100, 32]
        async with approvals_at(service.address) as approvals:
            assert (await approvals.stats()).executions == before
            refusal = await refused(approvals.get(approval_id(1)))
            assert refusal.code is grpc.StatusCode.NOT_FOUND
    # What an import brought once stays known.
    counts = (await imported(capsys, ApprovalImporter, "approval", database, path)).counts
    assert (counts["new"], counts["known"]) == (0, 2)
    assert await left(rows) == {young}


async def test_a_request_id_is_free_again_when_its_approval_was_removed(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    url = approval_service.database_url
    incident_id = await incidents.opened_id()
    request_id = secrets.token_hex(8)
    first = await approvals.proposed(incident_id, request_id=request_id)
    await approvals.cancel(first.approval_id, actor="proposer")
    assert (await approvals.proposed(incident_id, request_id=request_id)).approval_id == first.approval_id
    waits = "SELECT FROM outbox WHERE starts_with(dedup_key, $1) AND state = 'PENDING'"
    await eventually(lambda: schemas.rows(url, waits, first.approval_id), lambda waiting: not waiting)
    await schemas.rows(
        url,
        "UPDATE approvals SET update_time = update_time - interval '90 days' WHERE approval_id = $1",
        first.approval_id,
    )
    engine = create_engine(url, application_name="tests", pool_size=1)
    try:
        (batch,) = await remove_all(Transactions(engine, Outbox()))
    finally:
        await engine.dispose()
    assert batch.removed == 1
    again = await approvals.proposed(incident_id, request_id=request_id)
    assert again.approval_id != first.approval_id
    assert again.state == State.STATE_PENDING
