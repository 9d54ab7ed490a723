"""The statements that mark and remove jobs, each against a real PostgreSQL."""

import asyncio
import dataclasses
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.outbox import queue
from servicekit.outbox.queue import Failure
from tests.servicekit.outbox_cases import claim, end_leases, enqueue, job

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]


@pytest.mark.parametrize("mark", ["done", "failed", "parked", "released"])
async def test_the_late_mark_of_one_who_lost_the_lease_changes_nothing(
    engine: AsyncEngine, rows: "Rows", mark: str
) -> None:
    await enqueue(engine, "a")
    (late, _) = await claim(engine)
    await end_leases(rows)
    (current, _) = await claim(engine)
    before = await job(rows, "a")
    async with engine.begin() as connection:
        if mark == "done":
            assert await queue.mark_done(connection, late) == frozenset()
        elif mark == "released":
            await queue.release(connection, late)
        else:
            retry = timedelta(0) if mark == "failed" else None
            assert await queue.mark_failed(connection, [Failure(late[0], "late", retry)]) == frozenset()
    assert await job(rows, "a") == before
    async with engine.begin() as connection:
        assert await queue.mark_done(connection, current) == {current[0].job_id}


async def test_a_job_is_marked_done_once(engine: AsyncEngine) -> None:
    await enqueue(engine, "a")
    mine, _ = await claim(engine)
    async with engine.begin() as connection:
        assert await queue.mark_done(connection, mine) == {mine[0].job_id}
        assert await queue.mark_done(connection, mine) == frozenset()


async def test_only_the_jobs_whose_lease_still_is_the_callers_are_marked(engine: AsyncEngine) -> None:
    await enqueue(engine, "ab")
    mine, _ = await claim(engine)
    kept, stranger = mine
    stranger = dataclasses.replace(stranger, lease_token=uuid.uuid4())
    async with engine.begin() as connection:
        assert await queue.mark_done(connection, [kept, stranger]) == {kept.job_id}


async def test_a_done_job_has_its_time_and_no_lease(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, "ab")
    mine, _ = await claim(engine)
    done, skipped = mine
    async with engine.begin() as connection:
        await queue.mark_done(connection, [done])
        await queue.mark_done(connection, [skipped], skip_reason="not wanted")
    first, second = await job(rows, done.dedup_key), await job(rows, skipped.dedup_key)
    assert (first["state"], first["last_error"], first["lease_token"]) == ("DONE", None, None)
    assert (second["state"], second["last_error"]) == ("SKIPPED", "not wanted")
    assert first["done_time"] is not None


async def test_a_failure_is_kept_and_tried_again_not_before_its_time(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "a")
    ((mine,), _) = await claim(engine)
    async with engine.begin() as connection:
        await queue.mark_failed(connection, [Failure(mine, "x" * 600, timedelta(seconds=20))])
    row = await job(rows, "a")
    left = row["next_attempt_time"] - await rows.fetchval("SELECT now()")
    assert (row["state"], row["last_error"], row["lease_token"]) == ("PENDING", "x" * 500, None)
    assert timedelta(seconds=10) < left <= timedelta(seconds=20)
    assert (await claim(engine))[0] == []


async def test_a_holder_that_reported_a_failure_did_not_crash(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, "a")
    for _ in range(3):
        await claim(engine)
        await end_leases(rows)
    ((mine,), _) = await claim(engine)
    assert (await job(rows, "a"))["crashes"] == 3
    async with engine.begin() as connection:
        await queue.mark_failed(connection, [Failure(mine, "no", timedelta(0))])
    await end_leases(rows)
    await claim(engine)
    row = await job(rows, "a")
    assert (row["crashes"], row["attempts"]) == (0, 5)


async def test_what_was_claimed_and_not_tried_is_given_back_as_if_never_claimed(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "a")
    mine, _ = await claim(engine)
    async with engine.begin() as connection:
        await queue.release(connection, mine)
    ((again,), _) = await claim(engine)
    assert again.attempts == 1
    assert (await job(rows, "a"))["crashes"] == 0


async def test_old_done_jobs_are_removed_in_bounded_batches_and_no_others(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, ["done1", "done2", "skipped", "fresh", "parked", "pending"])
    await rows.execute("""
        UPDATE outbox SET
            state = CASE dedup_key WHEN 'skipped' THEN 'SKIPPED' WHEN 'parked' THEN 'PARKED'
                WHEN 'pending' THEN 'PENDING' ELSE 'DONE' END,
            done_time = CASE dedup_key WHEN 'pending' THEN NULL WHEN 'parked' THEN NULL
                WHEN 'fresh' THEN now() ELSE now() - interval '2 hours' END,
            create_time = now() - interval '1 day'
    """)
    async with engine.begin() as connection:
        # Another service's, or another version's, which may still need them.
        assert await queue.remove_done(connection, ["u", "v"], older_than=timedelta(0), limit=9) == 0
        removed = [
            await queue.remove_done(connection, ["t"], older_than=timedelta(hours=1), limit=2)
            for _ in range(3)
        ]
    assert removed == [2, 1, 0]
    left = {row["dedup_key"] for row in await rows.fetch("SELECT dedup_key FROM outbox")}
    assert left == {"fresh", "parked", "pending"}


async def test_two_removals_at_once_share_nothing_and_do_not_wait(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, range(4))
    await rows.execute("UPDATE outbox SET state = 'DONE', done_time = now() - interval '1 day'")
    async with engine.begin() as one, engine.begin() as two, asyncio.timeout(10):
        assert await queue.remove_done(one, ["t"], older_than=timedelta(0), limit=3) == 3
        assert await queue.remove_done(two, ["t"], older_than=timedelta(0), limit=3) == 1
