"""Retention: approvals that ended long ago are removed with what belongs to them, and none that still counts."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from approval.lifecycle.retention import Retention
from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.retention import Removal, remove_batch
from tests.approval.integration.lifecycle.old_approvals import (
    DAY,
    KEEP,
    insert_job,
    insert_old,
    left,
    remove_all,
    retention,
)
from tests.audit_trail import problems, record
from tests.explained import rows_read

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.asyncio(loop_scope="session")

ENDED = ("REJECTED", "EXPIRED", "CANCELLED", "SUCCEEDED", "FAILED")
UNENDED = ("PENDING", "APPROVED", "EXECUTING", "INDETERMINATE")


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
async def test_repairs_that_are_still_looked_at_stay_with_every_retention(
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
