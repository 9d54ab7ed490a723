"""A stopping worker: what it finishes, and what it leaves to other processes."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.outbox.handler import Topic
from servicekit.outbox.worker import OutboxWorker
from tests.eventually import eventually
from tests.servicekit.outbox_cases import (
    LEASE,
    Gate,
    Scripted,
    ended,
    enqueue,
    job,
    listening,
    running_worker,
    settings,
    transactions,
    until_state,
)

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]


async def test_a_stopping_worker_lets_a_batch_finish_releases_the_others_and_begins_nothing(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    gate = Gate()
    handler = Scripted(gate)
    worker = OutboxWorker(transactions(engine), [Topic("t", handler, max_batch=1, concurrency=3)], settings())
    await enqueue(engine, range(12))
    task = asyncio.create_task(worker.run())
    await eventually(lambda: asyncio.sleep(0, len(handler.delivered) == 3))
    task.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    await ended(task)
    assert len(handler.delivered) == 3, "a batch began after the stop"
    await until_state(rows, "DONE", *handler.delivered)
    left = await rows.fetch("SELECT attempts, crashes, lease_token FROM outbox WHERE state = 'PENDING'")
    assert len(left) == 9
    assert {tuple(row) for row in left} == {(0, 0, None)}
    # Any process may claim them at once.
    other = Scripted()
    async with running_worker(engine, other):
        await until_state(rows, "DONE", *range(12))
    assert len(other.delivered) == 9


async def test_a_batch_that_does_not_finish_is_cut_off_at_the_drain_time_and_released(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    gate = Gate()
    worker = OutboxWorker(
        transactions(engine), [Topic("t", Scripted(gate))], settings(drain=timedelta(milliseconds=100))
    )
    await enqueue(engine, "a")
    task = asyncio.create_task(worker.run())
    await gate.reached()
    async with asyncio.timeout(20):
        await ended(task)
    row = await job(rows, "a")
    assert (row["state"], row["lease_token"], row["crashes"]) == ("PENDING", None, 0)


async def test_a_stopping_worker_leaves_dispatched_jobs_to_other_processes(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    handler = Scripted()
    worker = OutboxWorker(transactions(engine), [Topic("t", handler)], settings())
    task = asyncio.create_task(worker.run())
    await listening(rows)
    await ended(task)
    worker.dispatch(await enqueue(engine, "a", lease=LEASE))
    await asyncio.sleep(0)
    assert handler.delivered == []
    assert (await job(rows, "a"))["state"] == "PENDING"
