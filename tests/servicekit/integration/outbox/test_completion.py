"""What a handler writes with the mark of its job, and who may mark."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction
from tests.servicekit.outbox_cases import (
    LEASE,
    Gate,
    Scripted,
    dispatch_only_worker,
    end_leases,
    enqueue,
    job,
    running_worker,
    until_state,
)

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]


class Writes(Scripted):
    """Completes by writing a row for each job."""

    async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        await super().complete(transaction, jobs)
        for done in jobs:
            await transaction.connection.execute(
                text("INSERT INTO service_keys VALUES (:key, '')"), {"key": f"done-{done.dedup_key}"}
            )


WRITTEN = "SELECT count(*) FROM service_keys WHERE name = 'done-a'"


async def test_what_a_completion_writes_commits_with_the_mark(engine: AsyncEngine, rows: "Rows") -> None:
    async with running_worker(engine, Writes()):
        await enqueue(engine, "a")
        await until_state(rows, "DONE", "a")
    written = "SELECT xmin FROM service_keys WHERE name = 'done-a'"
    marked = "SELECT xmin FROM outbox WHERE dedup_key = 'a'"
    assert await rows.fetchval(written) == await rows.fetchval(marked)


async def test_a_holder_that_lost_its_lease_completes_nothing(engine: AsyncEngine, rows: "Rows") -> None:
    """The mark races: the slow worker delivers long after another one did and completed."""
    gate = Gate()
    slow, quick = Writes(gate), Writes()
    holder = dispatch_only_worker(engine, slow)
    holder.dispatch(await enqueue(engine, "a", lease=LEASE))
    await gate.reached()
    await end_leases(rows)
    async with running_worker(engine, quick):
        await until_state(rows, "DONE", "a")
    before = await job(rows, "a")
    gate.open.set()
    # The slow worker has finished with it when it delivers the next one.
    holder.dispatch(await enqueue(engine, "b", lease=LEASE))
    await until_state(rows, "DONE", "b")
    assert (slow.completed, quick.completed) == (["b"], ["a"])
    assert await job(rows, "a") == before
    assert await rows.fetchval(WRITTEN) == 1


async def test_of_two_who_mark_at_the_same_moment_one_completes(engine: AsyncEngine, rows: "Rows") -> None:
    """The second mark waits for the first one's transaction, and then finds that the lease is gone."""
    gates = Gate(), Gate()
    first, second = Writes(gates[0]), Writes(gates[1])
    holder = dispatch_only_worker(engine, first)
    holder.dispatch(await enqueue(engine, "a", lease=LEASE))
    await gates[0].reached()
    await end_leases(rows)
    async with running_worker(engine, second):
        await gates[1].reached()
        for gate in gates:
            gate.open.set()
        await until_state(rows, "DONE", "a")
    # The first worker has finished with it when it delivers the next one.
    holder.dispatch(await enqueue(engine, "b", lease=LEASE))
    await until_state(rows, "DONE", "b")
    assert (first.completed, second.completed) == (["b"], ["a"])
    assert await rows.fetchval(WRITTEN) == 1
