"""The outbox's statements, each against a real PostgreSQL."""

import asyncio
import dataclasses
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.outbox import queue
from servicekit.outbox.queue import Failure, Job
from tests.servicekit.outbox_cases import LEASE, claim, end_leases, enqueue, job, jobs_of

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]


def keys(jobs: Sequence[Job]) -> set[str]:
    return {job.dedup_key for job in jobs}


async def test_what_a_rolled_back_transaction_enqueued_is_not_there(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    async with engine.connect() as connection:
        # The very first statement of the transaction.
        await queue.enqueue(connection, jobs_of("ab"))
        await connection.rollback()
    assert await rows.fetchval("SELECT count(*) FROM outbox") == 0


async def test_nothing_is_seen_before_the_commit(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await queue.enqueue(connection, jobs_of("a"))
        assert (await claim(engine))[0] == []
    assert keys((await claim(engine))[0]) == {"a"}


async def test_the_same_intent_twice_is_one(engine: AsyncEngine, rows: "Rows") -> None:
    assert keys(await enqueue(engine, "ab")) == {"a", "b"}
    assert keys(await enqueue(engine, "abc")) == {"c"}
    assert keys(await enqueue(engine, "dd")) == {"d"}
    assert await rows.fetchval("SELECT count(*) FROM outbox") == 4


async def test_a_key_is_one_intent_within_its_topic_only(engine: AsyncEngine) -> None:
    await enqueue(engine, "a", "one")
    assert keys(await enqueue(engine, "a", "two")) == {"a"}


async def test_the_same_intent_at_once_is_one(engine: AsyncEngine, rows: "Rows") -> None:
    enqueued = await asyncio.gather(*(enqueue(engine, "abc") for _ in range(20)))
    assert sum(len(jobs) for jobs in enqueued) == 3
    assert await rows.fetchval("SELECT count(*) FROM outbox") == 3


async def test_a_done_intent_is_not_enqueued_again(engine: AsyncEngine) -> None:
    await enqueue(engine, "a")
    mine, _ = await claim(engine)
    async with engine.begin() as connection:
        await queue.mark_done(connection, mine)
    assert await enqueue(engine, "a") == []
    assert (await claim(engine))[0] == []


async def test_enqueuing_nothing_is_nothing(engine: AsyncEngine, rows: "Rows") -> None:
    assert await enqueue(engine, "") == []
    assert await rows.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_claimed_job_is_what_was_enqueued(engine: AsyncEngine) -> None:
    await enqueue(engine, ["ż/1"])
    ((mine,), poisoned) = await claim(engine)
    assert (mine.topic, mine.dedup_key, mine.payload, mine.attempts) == ("t", "ż/1", {"key": "ż/1"}, 1)
    assert poisoned == []


async def test_an_attempt_is_counted_at_claim_and_the_lease_runs_by_the_databases_clock(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "a")
    async with engine.begin() as connection:
        await queue.claim(connection, {"t": 1}, lease=LEASE)
    row = await job(rows, "a")
    left = row["next_attempt_time"] - await rows.fetchval("SELECT now()")
    assert (row["attempts"], row["crashes"]) == (1, 0)
    assert row["lease_token"] is not None
    assert timedelta() < left <= LEASE


async def test_a_claim_takes_no_more_than_wanted_of_each_topic_the_oldest_due_first(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    for key in "abcd":
        await enqueue(engine, key, "one")
        await enqueue(engine, key, "two")
    await rows.execute(
        "UPDATE outbox SET next_attempt_time = now() - make_interval(secs => ascii(dedup_key))"
    )
    async with engine.begin() as connection:
        mine = [job for job, _ in await queue.claim(connection, {"one": 1, "two": 3}, lease=LEASE)]
    assert {(job.topic, job.dedup_key) for job in mine} == {
        ("one", "d"),
        ("two", "d"),
        ("two", "c"),
        ("two", "b"),
    }


async def test_topics_that_are_not_named_are_left_alone(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, "a", "of-a-newer-version")
    assert (await claim(engine))[0] == []
    assert (await job(rows, "a", "of-a-newer-version"))["attempts"] == 0


async def test_a_job_is_not_claimed_before_it_is_due(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, "a")
    await rows.execute("UPDATE outbox SET next_attempt_time = now() + interval '1 hour'")
    assert (await claim(engine))[0] == []


async def test_a_leased_job_is_nobody_elses(engine: AsyncEngine) -> None:
    await enqueue(engine, "ab")
    assert keys((await claim(engine))[0]) == {"a", "b"}
    assert (await claim(engine))[0] == []


async def test_two_claims_under_way_at_once_share_nothing_and_do_not_wait(engine: AsyncEngine) -> None:
    await enqueue(engine, range(10))
    async with engine.begin() as one, engine.begin() as two, asyncio.timeout(10):
        first = [job for job, _ in await queue.claim(one, {"t": 4}, lease=LEASE)]
        second = [job for job, _ in await queue.claim(two, {"t": 100}, lease=LEASE)]
    assert len(first) == 4
    assert len(second) == 6
    assert not keys(first) & keys(second)
    assert {job.lease_token for job in first} != {job.lease_token for job in second}


async def test_twenty_claims_at_once_give_each_job_to_one(engine: AsyncEngine) -> None:
    await enqueue(engine, range(300))
    claims = await asyncio.gather(*(claim(engine, 20) for _ in range(20)))
    claimed = [job.dedup_key for runnable, _ in claims for job in runnable]
    assert sorted(claimed, key=int) == [str(number) for number in range(300)]


async def test_a_lease_that_ran_out_counts_as_a_crash_of_its_holder(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "a")
    ((first,), _) = await claim(engine)
    await end_leases(rows)
    ((second,), _) = await claim(engine)
    assert second.attempts == 2
    assert second.lease_token != first.lease_token
    assert (await job(rows, "a"))["crashes"] == 1


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


async def test_a_claim_counts_the_leases_in_a_row_that_ended_without_a_report(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "a")
    for crashes in range(3):
        runnable, poisoned = await claim(engine, max_crashes=3)
        assert (keys(runnable), keys(poisoned)) == ({"a"}, set()), crashes
        await end_leases(rows)
    runnable, poisoned = await claim(engine, max_crashes=3)
    assert (keys(runnable), keys(poisoned)) == (set(), {"a"})


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


async def test_a_job_born_under_a_lease_is_in_its_callers_hands(engine: AsyncEngine) -> None:
    ((mine),) = await enqueue(engine, "a", lease=LEASE)
    assert mine.attempts == 1
    assert (await claim(engine))[0] == []
    async with engine.begin() as connection:
        assert await queue.mark_done(connection, [mine]) == {mine.job_id}


async def test_a_job_born_under_a_lease_is_anybodys_when_the_lease_is_over(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "a", lease=LEASE)
    await end_leases(rows)
    ((mine,), _) = await claim(engine)
    assert mine.attempts == 2


async def test_a_dead_letter_is_not_claimed(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, "a")
    ((mine,), _) = await claim(engine)
    async with engine.begin() as connection:
        assert await queue.mark_failed(connection, [Failure(mine, "no use", None)]) == {mine.job_id}
    await end_leases(rows)
    assert (await claim(engine))[0] == []
    assert (await job(rows, "a"))["state"] == "PARKED"


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
