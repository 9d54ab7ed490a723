"""The unit of work: counters and jobs are committed with the transaction, or not at all."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.errors import is_unavailable
from servicekit.outbox.handler import Topic
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transactions
from servicekit.outbox.worker import OutboxWorker
from tests.servicekit.outbox_cases import (
    LEASE,
    Scripted,
    enqueue,
    job,
    jobs_of,
    running_worker,
    settings,
    transactions,
    until_state,
)

if TYPE_CHECKING:
    from tests.servicekit.outbox_cases import Rows


class Recording:
    """A worker with room for so many jobs, that keeps what it is given."""

    def __init__(self, room: int) -> None:
        self._room = room
        self.dispatched: list[str] = []
        self.woken = 0

    def has_room(self, topic: str, jobs: int) -> bool:
        return jobs <= self._room

    def dispatch(self, jobs: Sequence[Job]) -> None:
        self.dispatched += [each.dedup_key for each in jobs]

    def wake(self) -> None:
        self.woken += 1


def with_worker(engine: AsyncEngine, worker: Recording) -> Transactions:
    outbox = Outbox(lease=LEASE)
    outbox.attach(worker)
    return Transactions(engine, outbox)


async def counters(rows: "Rows") -> dict[str, int]:
    found = await rows.fetch("SELECT name || label AS key, sum(value)::int AS value FROM counters GROUP BY 1")
    return {row["key"]: row["value"] for row in found}


async def test_counters_and_jobs_are_committed_with_the_statements(engine: AsyncEngine, rows: "Rows") -> None:
    work = transactions(engine)
    async with work.begin() as transaction:
        await transaction.connection.execute(text("INSERT INTO service_keys VALUES ('a', '')"))
        transaction.count("opened", "HIGH")
        transaction.count("opened", "HIGH", 2)
        transaction.enqueue(*jobs_of("ab"))
    assert await rows.fetchval("SELECT count(*) FROM service_keys WHERE name = 'a'") == 1
    assert await counters(rows) == {"openedHIGH": 3}
    assert [each.dedup_key for each in transaction.enqueued] == ["a", "b"]


async def test_an_exception_rolls_back_counters_and_jobs_and_dispatches_none(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    worker = Recording(room=10)

    async def failing() -> None:
        async with with_worker(engine, worker).begin() as transaction:
            transaction.count("opened")
            transaction.enqueue(*jobs_of("a"))
            raise KeyError

    with pytest.raises(KeyError):
        await failing()
    assert await counters(rows) == {}
    assert await rows.fetchval("SELECT count(*) FROM outbox") == 0
    assert (worker.dispatched, worker.woken) == ([], 0)


async def test_a_failed_commit_dispatches_none(engine: AsyncEngine) -> None:
    worker = Recording(room=10)

    async def cut_off() -> None:
        async with with_worker(engine, worker).begin() as transaction:
            transaction.enqueue(*jobs_of("a"))
            own = await transaction.connection.scalar(text("SELECT pg_backend_pid()"))
            async with engine.connect() as other:
                await other.execute(text(f"SELECT pg_terminate_backend({own}, 10000)"))

    with pytest.raises(DBAPIError) as caught:
        await cut_off()
    assert is_unavailable(caught.value)
    assert (worker.dispatched, worker.woken) == ([], 0)


async def test_a_counter_whose_changes_sum_to_zero_is_not_written(engine: AsyncEngine, rows: "Rows") -> None:
    async with transactions(engine).begin() as transaction:
        transaction.count("pending", amount=1)
        transaction.count("pending", amount=-1)
    assert await counters(rows) == {}


async def test_jobs_are_inserted_leased_and_dispatched_after_the_commit_when_there_is_room(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    worker = Recording(room=2)
    async with with_worker(engine, worker).begin() as transaction:
        transaction.enqueue(*jobs_of("ab"))
        assert worker.dispatched == []
    assert worker.dispatched == ["a", "b"]
    row = await job(rows, "a")
    assert (row["attempts"], row["lease_token"] is None) == (1, False)


async def test_without_room_jobs_are_inserted_unleased_and_the_worker_is_woken(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    worker = Recording(room=1)
    async with with_worker(engine, worker).begin() as transaction:
        transaction.enqueue(*jobs_of("ab"))
    assert (worker.dispatched, worker.woken) == ([], 1)
    row = await job(rows, "a")
    assert (row["attempts"], row["lease_token"]) == (0, None)


async def test_a_topic_without_room_costs_the_others_nothing(engine: AsyncEngine, rows: "Rows") -> None:
    worker = Recording(room=1)
    async with with_worker(engine, worker).begin() as transaction:
        transaction.enqueue(*jobs_of("a"), *jobs_of("bc", "full"))
    assert (worker.dispatched, worker.woken) == (["a"], 1)
    row = await job(rows, "b", "full")
    assert (row["attempts"], row["lease_token"]) == (0, None)


async def test_an_intent_enqueued_again_is_not_dispatched_again(engine: AsyncEngine) -> None:
    worker = Recording(room=10)
    await enqueue(engine, "a")
    async with with_worker(engine, worker).begin() as transaction:
        transaction.enqueue(*jobs_of("aab"))
    assert worker.dispatched == ["b"]


async def test_a_topic_that_the_worker_does_not_run_is_left_to_other_processes(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    work = transactions(engine)
    OutboxWorker(work, [Topic("t", Scripted())], settings())
    async with work.begin() as transaction:
        transaction.enqueue(*jobs_of("a", "other"))
    assert (await job(rows, "a", "other"))["lease_token"] is None


async def test_a_dispatched_job_is_delivered_without_a_claim(engine: AsyncEngine, rows: "Rows") -> None:
    handler = Scripted()
    async with running_worker(engine, handler) as worker:
        outbox = Outbox(lease=LEASE)
        outbox.attach(worker)
        async with Transactions(engine, outbox).begin() as transaction:
            transaction.enqueue(*jobs_of("a"))
        await until_state(rows, "DONE", "a")
    assert (await job(rows, "a"))["attempts"] == 1


async def test_concurrent_transactions_that_count_in_opposite_orders_do_not_deadlock(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    work = transactions(engine)

    async def count(names: str) -> None:
        for _ in range(50):
            async with work.begin() as transaction:
                for name in names:
                    transaction.count(name)

    await asyncio.gather(count("abcd"), count("dcba"), count("cadb"), count("bdac"))
    assert await counters(rows) == dict.fromkeys("abcd", 200)


async def test_statements_of_a_snapshot_see_the_same_data(engine: AsyncEngine, rows: "Rows") -> None:
    async with transactions(engine).snapshot() as connection:
        before = await connection.scalar(text("SELECT count(*) FROM outbox"))
        await enqueue(engine, "a")
        assert await connection.scalar(text("SELECT count(*) FROM outbox")) == before
    assert await rows.fetchval("SELECT count(*) FROM outbox") == 1
