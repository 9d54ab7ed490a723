"""The statements that enqueue and claim jobs, each against a real PostgreSQL."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

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


async def test_a_leased_job_is_not_claimed(engine: AsyncEngine) -> None:
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


async def test_a_job_inserted_leased_is_not_claimed(engine: AsyncEngine) -> None:
    ((mine),) = await enqueue(engine, "a", lease=LEASE)
    assert mine.attempts == 1
    assert (await claim(engine))[0] == []
    async with engine.begin() as connection:
        assert await queue.mark_done(connection, [mine]) == {mine.job_id}


async def test_a_job_inserted_leased_is_claimed_when_its_lease_has_expired(
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
