"""Jobs whose holders keep dying: a crash loop dead-letters no innocent job, and a poison job still ends as a dead letter."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.outbox import queue
from servicekit.outbox.handler import Topic
from servicekit.outbox.queue import Job
from tests.eventually import eventually
from tests.servicekit.outbox_cases import (
    Gate,
    Scripted,
    claim,
    end_leases,
    enqueue,
    job,
    jobs_of,
    running_worker,
    settings,
    until_state,
)

if TYPE_CHECKING:
    from tests.servicekit.outbox_cases import Rows

# Suspect after two crashes, dead letter after two more alone.
LIMITS = {"max_crashes": 2, "max_crashes_alone": 2}


async def crash(engine: AsyncEngine, rows: "Rows", times: int, topic: str = "t") -> None:
    """Claim all jobs of a topic and never report back, as holders that die."""
    for _ in range(times):
        await claim(engine, topic=topic)
        await end_leases(rows)


class Overlaps(Scripted):
    """Notes which jobs ran at the same time as another one."""

    def __init__(self) -> None:
        super().__init__()
        self.running: set[str] = set()
        self.overlapped: set[str] = set()

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        keys = {each.dedup_key for each in jobs}
        if self.running or len(keys) > 1:
            self.overlapped |= keys | self.running
        self.running |= keys
        await asyncio.sleep(0.01)
        self.running -= keys
        return await super().deliver(jobs)


async def test_innocent_jobs_of_a_crash_loop_are_delivered(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, range(5))
    await crash(engine, rows, 2)
    handler = Scripted()
    async with running_worker(engine, handler, settings(**LIMITS)):
        await until_state(rows, "DONE", *range(5))
    assert handler.parked_jobs == []
    assert sorted(handler.delivered) == ["0", "1", "2", "3", "4"]


async def test_a_suspect_runs_while_no_other_job_of_any_topic_runs(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, ["s1", "s2"])
    await crash(engine, rows, 2)
    handler = Overlaps()
    await enqueue(engine, [f"x{number}" for number in range(20)])
    await enqueue(engine, [f"y{number}" for number in range(20)], "other")
    topics = [
        Topic("t", handler, max_batch=2, concurrency=2),
        Topic("other", handler, max_batch=2, concurrency=2),
    ]
    async with running_worker(engine, topics, settings(**LIMITS)):
        await until_state(rows, "DONE", "s1", "s2", *(f"x{number}" for number in range(20)))
        await until_state(rows, "DONE", *(f"y{number}" for number in range(20)), topic="other")
    assert handler.overlapped & {"s1", "s2"} == set()
    assert handler.overlapped, "nothing ran together, so the test shows nothing"


async def test_a_job_that_kills_its_holders_alone_as_well_is_dead_lettered_untried_and_the_others_flow(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    handler = Scripted()
    await enqueue(engine, "a")
    await crash(engine, rows, 4)
    async with running_worker(engine, handler, settings(**LIMITS)):
        await until_state(rows, "PARKED", "a")
        await enqueue(engine, "b")
        await until_state(rows, "DONE", "b")
    assert handler.delivered == ["b"]
    ((key, reason),) = handler.parked_jobs
    assert key == "a"
    assert (await job(rows, "a"))["last_error"] == reason == "its worker died at every attempt"


async def test_a_job_that_only_makes_a_request_is_never_a_suspect(engine: AsyncEngine, rows: "Rows") -> None:
    handler = Scripted()
    await enqueue(engine, range(5))
    await crash(engine, rows, 9)
    async with running_worker(engine, [Topic("t", handler, only_requests=True)], settings(**LIMITS)):
        await until_state(rows, "DONE", *range(5))
    assert len(handler.batches) == 1


async def test_a_delivered_suspect_is_no_suspect_any_more(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, "a")
    await crash(engine, rows, 3)
    async with running_worker(engine, Scripted(), settings(**LIMITS)):
        await until_state(rows, "DONE", "a")
    assert (await job(rows, "a"))["crashes"] == 0


async def test_a_stopping_worker_releases_a_suspect_that_waits_to_run_alone(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    gate = Gate()
    handler = Scripted()
    topics = [Topic("t", handler), Topic("other", Scripted(gate))]
    await enqueue(engine, "b", "other")
    async with running_worker(engine, topics, settings(**LIMITS)) as worker:
        await gate.reached()
        async with engine.begin() as connection:
            await queue.enqueue(connection, jobs_of("a"))
            await connection.execute(text("UPDATE outbox SET crashes = 2 WHERE dedup_key = 'a'"))
        worker.wake()
        await eventually(
            lambda: rows.fetchval("SELECT lease_token IS NOT NULL FROM outbox WHERE dedup_key = 'a'")
        )
        asyncio.get_running_loop().call_later(0.05, gate.open.set)
    row = await job(rows, "a")
    assert handler.delivered == []
    assert (row["state"], row["lease_token"]) == ("PENDING", None)


@pytest.mark.parametrize("crashes", [0, 2], ids=["innocent", "suspect"])
async def test_concurrent_suspects_run_one_after_the_other(
    engine: AsyncEngine, rows: "Rows", crashes: int
) -> None:
    handler = Overlaps()
    await enqueue(engine, range(6))
    await crash(engine, rows, crashes)
    topics = [Topic("t", handler, max_batch=1, concurrency=3)]
    async with running_worker(engine, topics, settings(**LIMITS)):
        await until_state(rows, "DONE", *range(6))
    assert bool(handler.overlapped) is (crashes == 0)
