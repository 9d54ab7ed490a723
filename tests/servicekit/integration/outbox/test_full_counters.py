"""Counters of jobs at their maximum: a full one stays, and its job is claimed, retried and released as any other."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.counters import MAX_COUNT, raise_counters, read_counters
from servicekit.outbox.handler import DeliveryError
from servicekit.outbox.queue import Job
from tests.servicekit.outbox_cases import Scripted, enqueue, running_worker, settings, until_state

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

FULL = 2**31 - 1


async def test_a_job_with_full_attempts_is_retried_and_done(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, ["a"])
    await rows.execute("UPDATE outbox SET attempts = $1", FULL)
    refusals: list[Exception | None] = [DeliveryError("not yet"), DeliveryError("not yet")]

    async def deliver(jobs: Sequence[Job]) -> Sequence[Exception | None]:
        return [refusals.pop() if refusals else None for _ in jobs]

    async with running_worker(engine, Scripted(deliver), settings(poll=timedelta(milliseconds=20))):
        await until_state(rows, "DONE", "a")
    assert await rows.fetchval("SELECT attempts FROM outbox") == FULL


async def test_a_job_with_full_crashes_is_a_suspect_and_parked(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, ["a", "b"])
    await rows.execute(
        "UPDATE outbox SET crashes = $1, lease_token = gen_random_uuid() WHERE dedup_key = 'a'", FULL
    )
    async with running_worker(engine, Scripted()):
        await until_state(rows, "PARKED", "a")
        await until_state(rows, "DONE", "b")


async def test_a_full_counter_stays_in_one_shard_and_over_all(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for shard in (1, 2, 1):
            await raise_counters(connection, {("a", ""): MAX_COUNT, ("b", ""): 1}, shard=shard)
        assert await read_counters(connection) == {("a", ""): MAX_COUNT, ("b", ""): 3}
        await raise_counters(connection, {("a", ""): -1}, shard=1)
        assert (await read_counters(connection))["a", ""] == MAX_COUNT
