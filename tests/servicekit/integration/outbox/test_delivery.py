"""The worker: how a job gets to its handler, and how it is marked."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.outbox import queue
from servicekit.outbox.handler import Topic
from servicekit.outbox.queue import Job
from servicekit.outbox.tables import NOTIFY_CHANNEL
from servicekit.outbox.worker import OutboxWorker
from tests.eventually import eventually
from tests.servicekit.outbox_cases import (
    LEASE,
    Gate,
    Scripted,
    end_leases,
    enqueue,
    job,
    jobs_of,
    listening,
    running_worker,
    settings,
    transactions,
    until_state,
)

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]


async def test_what_is_enqueued_before_the_worker_starts_is_delivered(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "ab")
    handler = Scripted()
    async with running_worker(engine, handler):
        await until_state(rows, "DONE", "a", "b")
    assert sorted(handler.delivered) == ["a", "b"]
    assert sorted(handler.completed) == ["a", "b"]
    assert (await job(rows, "a"))["attempts"] == 1


async def test_a_commit_wakes_a_worker_that_never_polls(engine: AsyncEngine, rows: "Rows") -> None:
    handler = Scripted()
    async with running_worker(engine, handler):
        await listening(rows)
        for key in "abc":
            await enqueue(engine, key)
            await until_state(rows, "DONE", key)


async def test_only_jobs_to_claim_notify_once_a_transaction(engine: AsyncEngine, rows: "Rows") -> None:
    heard: list[str] = []
    await rows.add_listener(NOTIFY_CHANNEL, lambda *_args: heard.append("outbox"))
    await rows.add_listener("end", lambda *_args: heard.append("end"))
    # Taken keys, leased jobs, and none at all.
    await enqueue(engine, "ab")
    await enqueue(engine, "ab")
    await enqueue(engine, "cd", lease=LEASE)
    async with engine.begin() as connection:
        await queue.enqueue(connection, jobs_of("e"), lease=LEASE, leased=("t",))
        await queue.enqueue(connection, jobs_of("f"))
        await queue.enqueue(connection, jobs_of("g"))
    await rows.execute('NOTIFY "end"')
    await eventually(lambda: _answered(rows), lambda _: "end" in heard)
    assert heard == ["outbox", "outbox", "end"]


async def _answered(rows: "Rows") -> int:
    found: int = await rows.fetchval("SELECT 1")
    return found


async def test_a_rollback_wakes_no_worker_and_delivers_nothing(engine: AsyncEngine, rows: "Rows") -> None:
    handler = Scripted()
    async with running_worker(engine, handler):
        await listening(rows)
        async with engine.connect() as connection:
            await queue.enqueue(connection, jobs_of("a"))
            await connection.rollback()
        await enqueue(engine, "b")
        await until_state(rows, "DONE", "b")
    assert handler.delivered == ["b"]


async def enqueue_unheard(rows: "Rows", *keys: str) -> None:
    """Enqueue as a process of the version before does where no trigger notifies for it."""
    insert = "INSERT INTO outbox (topic, dedup_key, payload) VALUES ('t', $1, '{}')"
    await rows.executemany(insert, [(key,) for key in keys])


async def test_without_any_notification_the_poll_delivers(engine: AsyncEngine, rows: "Rows") -> None:
    handler = Scripted()
    async with running_worker(engine, handler, settings(poll=timedelta(milliseconds=50))):
        # The first may still be found by looking around at the start; the others by the poll alone.
        for key in "abc":
            await enqueue_unheard(rows, key)
            await until_state(rows, "DONE", key)


async def test_a_cut_listening_connection_is_opened_again_and_looks_at_once(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    handler = Scripted()
    async with running_worker(engine, handler):
        await listening(rows)
        await enqueue_unheard(rows, "lost")
        assert await rows.fetchval("""
            SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE 'LISTEN%'
        """)
        await until_state(rows, "DONE", "lost")
        await listening(rows)
        await enqueue(engine, ["heard"])
        await until_state(rows, "DONE", "heard")


async def test_a_job_inserted_leased_and_dispatched_is_tried_at_once_without_a_claim(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    handler = Scripted()
    async with running_worker(engine, handler) as worker:
        await listening(rows)
        worker.dispatch(await enqueue(engine, "a", lease=LEASE))
        await until_state(rows, "DONE", "a")
    row = await job(rows, "a")
    assert (row["attempts"], row["crashes"]) == (1, 0)
    assert handler.delivered == ["a"]


async def test_a_job_inserted_leased_whose_process_died_is_delivered_by_another_when_the_lease_ends(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    await enqueue(engine, "a", lease=LEASE)
    handler = Scripted()
    async with running_worker(engine, handler) as worker:
        await listening(rows)
        assert handler.delivered == []
        await end_leases(rows)
        worker.wake()
        await until_state(rows, "DONE", "a")
    row = await job(rows, "a")
    assert (row["attempts"], row["crashes"]) == (2, 0)


async def test_two_workers_deliver_every_job_once_between_them(engine: AsyncEngine, rows: "Rows") -> None:
    one, two = Scripted(), Scripted()
    await enqueue(engine, range(300))
    async with (
        running_worker(engine, [Topic("t", one, max_batch=7, concurrency=2)]),
        running_worker(engine, [Topic("t", two, max_batch=7, concurrency=2)]),
    ):
        await enqueue(engine, range(300, 400))
        await until_state(rows, "DONE", *range(400))
    assert sorted(map(int, one.delivered + two.delivered)) == list(range(400))
    assert sorted(map(int, one.completed + two.completed)) == list(range(400))


async def test_a_worker_takes_batches_no_larger_than_its_topic_allows(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    handler = Scripted()
    await enqueue(engine, range(25))
    async with running_worker(engine, [Topic("t", handler, max_batch=4)]):
        await until_state(rows, "DONE", *range(25))
    assert max(len(batch) for batch in handler.batches) == 4


async def test_topics_of_another_version_are_left_alone(engine: AsyncEngine, rows: "Rows") -> None:
    handler = Scripted()
    await enqueue(engine, "a", "of-a-newer-version")
    async with running_worker(engine, handler):
        await enqueue(engine, "b")
        await until_state(rows, "DONE", "b")
    row = await job(rows, "a", "of-a-newer-version")
    assert (row["state"], row["attempts"]) == ("PENDING", 0)


async def test_a_topic_that_hangs_holds_up_no_other(engine: AsyncEngine, rows: "Rows") -> None:
    gate = Gate()
    hanging, flowing = Scripted(gate), Scripted()
    # It hangs for longer than the others take on any machine.
    slow = Topic("slow", hanging, max_batch=1, timeout=timedelta(minutes=5))
    topics = [slow, Topic("t", flowing, max_batch=1)]
    async with running_worker(engine, topics, lease=timedelta(minutes=10)):
        await enqueue(engine, range(20), "slow")
        await gate.reached()
        for key in range(20):
            await enqueue(engine, [key])
        await until_state(rows, "DONE", *range(20))
        assert len(hanging.delivered) == 1
        gate.open.set()
        await until_state(rows, "DONE", *range(20), topic="slow")


class NotWanted(Scripted):
    def skip_reason(self, job: Job) -> str | None:
        return "not wanted" if job.dedup_key.startswith("x") else None


async def test_an_unwanted_job_is_skipped_with_its_reason_and_nothing_runs(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    handler = NotWanted()
    async with running_worker(engine, handler):
        await enqueue(engine, ["x1", "a", "x2"])
        await until_state(rows, "SKIPPED", "x1", "x2")
        await until_state(rows, "DONE", "a")
    assert handler.delivered == handler.completed == ["a"]
    assert (await job(rows, "x1"))["last_error"] == "not wanted"


async def test_done_jobs_are_removed_when_they_are_old_enough(engine: AsyncEngine, rows: "Rows") -> None:
    await enqueue(engine, range(5))
    await rows.execute("UPDATE outbox SET state = 'DONE', done_time = now() - interval '1 hour'")
    await enqueue(engine, ["new"])

    async def left() -> list[str]:
        return [row["dedup_key"] for row in await rows.fetch("SELECT dedup_key FROM outbox")]

    async with running_worker(engine, Scripted(), settings(keep_done=timedelta(minutes=1))):
        await eventually(left, lambda keys: keys == ["new"])
        await until_state(rows, "DONE", "new")


@pytest.mark.parametrize("timeout", [LEASE, LEASE + timedelta(seconds=1)], ids=["equal", "longer"])
def test_a_topic_whose_timeout_does_not_fit_into_the_lease_is_refused(
    engine: AsyncEngine, timeout: timedelta
) -> None:
    with pytest.raises(ValueError, match="timeout of topic slow"):
        OutboxWorker(transactions(engine), [Topic("slow", Scripted(), timeout=timeout)], settings())
