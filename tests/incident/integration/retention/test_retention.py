"""Retention: incidents resolved long ago are removed with all their rows, in small batches, and no others."""

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from incident.model import Effect
from servicekit.outbox import dead_letters
from servicekit.outbox.transaction import Transactions
from tests.audit_trail import records
from tests.incident.integration.retention.old_incidents import (
    KEEP,
    counted,
    insert_resolved,
    left,
    remove_old,
)

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]


async def set_effect(rows: "Rows", incident_id: str, effect: Effect, state: str, *, number: int = 1) -> None:
    await rows.execute(
        "UPDATE outbox SET state = $1, done_time = NULL WHERE topic = $2 AND dedup_key = $3",
        state,
        effect.topic,
        f"{incident_id}/{number}",
    )


async def test_a_removal_is_an_audit_record_with_the_ids_of_what_was_removed(
    transactions: Transactions, rows: "Rows", database: str
) -> None:
    old = {await insert_resolved(rows, days_ago=31) for _ in range(2)}
    await insert_resolved(rows, days_ago=29)
    await remove_old(transactions, keep=KEEP, limit=100)
    (found,) = await records(database)
    assert (found["operation"], found["actor"], found["method"]) == (
        "background/retention",
        "service:incident",
        "system",
    )
    assert set(found["targets"].split()) == old


async def test_old_resolved_incidents_are_removed_with_all_their_rows(
    transactions: Transactions, rows: "Rows"
) -> None:
    young = await insert_resolved(rows, days_ago=29)
    kept = await counted(rows)
    for resolutions in (1, 3):
        await insert_resolved(rows, days_ago=31, resolutions=resolutions)
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 2
    assert await left(rows) == {young}
    assert await counted(rows) == kept
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 0


@pytest.mark.parametrize(
    ("state", "days_ago"),
    [
        pytest.param("RESOLVED", 29.9, id="resolved a little less long ago"),
        pytest.param("OPEN", 1000.0, id="old and never worked on"),
        pytest.param("INVESTIGATING", 1000.0, id="old and being worked on"),
    ],
)
async def test_young_and_unresolved_incidents_stay(
    transactions: Transactions, rows: "Rows", state: str, days_ago: float
) -> None:
    incident_id = await insert_resolved(rows, days_ago=days_ago, state=state)
    before = await counted(rows)
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 0
    assert await left(rows) == {incident_id}
    assert await counted(rows) == before


@pytest.mark.parametrize("state", ["PENDING", "PARKED"])
@pytest.mark.parametrize("number", [1, 2])
async def test_an_incident_with_a_pending_or_parked_effect_stays(
    transactions: Transactions, rows: "Rows", state: str, number: int
) -> None:
    incident_id = await insert_resolved(rows, days_ago=31, resolutions=2)
    await set_effect(rows, incident_id, Effect.WEBHOOK, state, number=number)
    before = await counted(rows)
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 0
    assert await counted(rows) == before
    await set_effect(rows, incident_id, Effect.WEBHOOK, "DONE", number=number)
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 1
    assert set((await counted(rows)).values()) == {0}


async def test_a_batch_removes_the_oldest_incidents_first(transactions: Transactions, rows: "Rows") -> None:
    by_age = [await insert_resolved(rows, days_ago=60 - days) for days in range(7)]
    waiting = await insert_resolved(rows, days_ago=100)
    await set_effect(rows, waiting, Effect.POSTMORTEM, "PARKED")
    for expected in (3, 3, 1, 0):
        assert (await remove_old(transactions, keep=KEEP, limit=3)).removed == expected
        del by_age[:expected]
        assert await left(rows) == {*by_age, waiting}


async def test_a_batch_has_so_many_rows_and_a_larger_incident_is_removed_alone_at_last(
    transactions: Transactions, rows: "Rows"
) -> None:
    large = await insert_resolved(rows, days_ago=90)
    small = [await insert_resolved(rows, days_ago=days) for days in (60, 50, 40)]
    for incident_id, entries, requests in (
        (large, 50, 0),
        (small[0], 8, 0),
        (small[1], 0, 8),
        (small[2], 0, 8),
    ):
        await rows.execute(
            """
            INSERT INTO create_requests (request_id, content_hash, incident_id, deduplicated)
            SELECT $1 || '/more/' || number, '', $1, true FROM generate_series(1, $2::int) AS number
            """,
            incident_id,
            requests,
        )
        await rows.execute(
            """
            INSERT INTO incident_events (event_id, incident_id, type, actor, summary, resolution_number)
            SELECT $1 || '/more/' || number, $1, 'DEDUPLICATED', 'tester', '', 0
            FROM generate_series(1, $2::int) AS number
            """,
            incident_id,
            entries,
        )
    # Each of the small ones has ten rows: eight entries or requests, an entry of its resolution, and a request.
    for expected in ({large, small[2]}, {large}, set[str]()):
        removal = await remove_old(transactions, keep=KEEP, limit=100, max_rows=20)
        assert await left(rows) == expected
        # As long as there is more, the next batch does not wait for the next period.
        assert removal.has_more == bool(expected)
    assert set((await counted(rows)).values()) == {0}
    # Each batch is one record, of what it has removed.
    removed = await rows.fetch(
        "SELECT actor, method, outcome, targets FROM audit_records WHERE operation = 'background/retention'"
    )
    assert {tuple(each)[:3] for each in removed} == {("service:incident", "system", "CHANGED")}
    assert {frozenset(each["targets"].split()) for each in removed} == {
        frozenset(each) for each in ([large], [small[2]], small[:2])
    }


async def test_an_incident_locked_by_a_concurrent_reopening_is_skipped(
    transactions: Transactions, rows: "Rows"
) -> None:
    reopened = await insert_resolved(rows, days_ago=90)
    await insert_resolved(rows, days_ago=60)
    async with rows.transaction():
        await rows.execute(
            "UPDATE incidents SET state = 'OPEN', resolve_time = NULL, resolution_type = NULL WHERE incident_id = $1",
            reopened,
        )
        assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 1
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 0
    assert await left(rows) == {reopened}


async def test_concurrent_removals_are_disjoint(transactions: Transactions, rows: "Rows") -> None:
    for _ in range(20):
        await insert_resolved(rows, days_ago=31)
    removals = await asyncio.gather(*(remove_old(transactions, keep=KEEP, limit=10) for _ in range(4)))
    removed = sum(removal.removed for removal in removals)
    assert removed <= 20
    assert len(await left(rows)) == 20 - removed
    while (await remove_old(transactions, keep=KEEP, limit=10)).has_more:
        pass
    assert set((await counted(rows)).values()) == {0}


async def test_an_incident_with_a_dismissed_effect_is_removed(
    transactions: Transactions, rows: "Rows"
) -> None:
    incident_id = await insert_resolved(rows, days_ago=31)
    await set_effect(rows, incident_id, Effect.WEBHOOK, "PARKED")
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 0
    async with transactions.begin() as transaction:
        job = await dead_letters.get_by_key_for_update(
            transaction.connection, Effect.WEBHOOK.topic, f"{incident_id}/1"
        )
        assert job is not None
        await dead_letters.dismiss(transaction.connection, job, actor="alice", reason="over")
    assert (await remove_old(transactions, keep=KEEP, limit=100)).removed == 1
    assert set((await counted(rows)).values()) == {0}
