"""The end of an outage: what failed during it waits for no backoff."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.outbox import queue
from servicekit.outbox.batch_delivery import Backoff
from servicekit.outbox.handler import Topic, UnreachableError
from servicekit.outbox.queue import Job
from tests.eventually import eventually
from tests.servicekit.outbox_cases import Scripted, each, enqueue, job, running_worker, settings, until_state

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

SLOW = Backoff(base=timedelta(minutes=10), cap=timedelta(minutes=10))
JOBS = range(60)


class Target:
    """Another system that can be away."""

    def __init__(self) -> None:
        self.is_away = True

    def __call__(self, _job: Job) -> Exception | None:
        return UnreachableError("UNAVAILABLE: refused") if self.is_away else None


async def all_failed(rows: "Rows") -> None:
    await eventually(
        lambda: rows.fetchval(
            "SELECT count(*) FROM outbox WHERE last_error IS NOT NULL AND lease_token IS NULL"
        ),
        lambda count: count == len(JOBS),
    )


@pytest.mark.parametrize("max_batch", [100, 7])
async def test_what_failed_during_an_outage_is_due_with_the_first_answer_after_it(
    engine: AsyncEngine, rows: "Rows", max_batch: int
) -> None:
    target = Target()
    topic = Topic("t", Scripted(each(target)), max_batch=max_batch, one_target=True)
    await enqueue(engine, JOBS)
    async with running_worker(engine, [topic], settings(backoff=SLOW)):
        await all_failed(rows)
        target.is_away = False
        # Without it, nothing would be tried for minutes: the worker never polls here either.
        await enqueue(engine, ["new"])
        await until_state(rows, "DONE", *map(str, JOBS), "new")
    row = await job(rows, "0")
    assert row["attempts"] == 2


async def test_deliveries_to_many_systems_keep_their_backoffs(engine: AsyncEngine, rows: "Rows") -> None:
    target = Target()
    await enqueue(engine, JOBS)
    async with running_worker(engine, [Topic("t", Scripted(each(target)))], settings(backoff=SLOW)):
        await all_failed(rows)
        target.is_away = False
        await enqueue(engine, ["new"])
        await until_state(rows, "DONE", "new")
    assert (await job(rows, "0"))["state"] == "PENDING"


async def test_ending_backoffs_leaves_leases_and_other_topics_alone(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, ["leased", "waiting", "more"])
    await rows.execute("UPDATE outbox SET next_attempt_time = now() + interval '1 min'")
    await rows.execute("UPDATE outbox SET lease_token = gen_random_uuid() WHERE dedup_key = 'leased'")
    async with engine.begin() as connection:
        assert await queue.end_backoffs(connection, ["other"], limit=10) == 0
        assert await queue.end_backoffs(connection, ["t"], limit=1) == 1
        assert await queue.end_backoffs(connection, ["t"], limit=10) == 1
        assert await queue.end_backoffs(connection, ["t"], limit=10) == 0
