"""The statements of the worker read the jobs that they are about: their plans are kept while the table grows."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from servicekit.outbox import queue
from servicekit.outbox.queue import Failure, Job
from tests.explained import scans
from tests.servicekit.outbox_cases import LEASE, claim, enqueue

Run = Callable[[AsyncConnection, Sequence[Job]], Awaitable[object]]


async def fail(connection: AsyncConnection, jobs: Sequence[Job]) -> None:
    await queue.mark_failed(connection, [Failure(job, "away", LEASE) for job in jobs])


@pytest.mark.parametrize(
    "run",
    [
        lambda connection, _jobs: queue.claim(connection, {"t": 10}, lease=LEASE),
        queue.mark_done,
        fail,
        queue.release,
        lambda connection, _jobs: queue.remove_done(connection, ["t"], older_than=timedelta(0), limit=10),
        lambda connection, _jobs: queue.end_backoffs(connection, ["t"], limit=10),
    ],
    ids=["claim", "mark done", "mark failed", "release", "remove done", "end backoffs"],
)
async def test_no_statement_reads_jobs_without_an_index_condition(engine: AsyncEngine, run: Run) -> None:
    await enqueue(engine, "ab")
    jobs, _ = await claim(engine)
    conditions = (await scans(engine, lambda connection: run(connection, jobs)))["outbox"]
    assert any("job_id = ANY" in condition for condition in conditions)
    assert "" not in conditions


async def test_of_two_tokens_of_a_job_in_one_batch_the_later_one_holds(engine: AsyncEngine) -> None:
    await enqueue(engine, "a")
    ((first,), _) = await claim(engine)
    async with engine.begin() as connection:
        await queue.release(connection, [first])
    ((again,), _) = await claim(engine)
    async with engine.begin() as connection:
        assert await queue.mark_done(connection, [first]) == frozenset()
        assert await queue.mark_done(connection, [first, again]) == {again.job_id}
