"""Topics that are joined share batches and transactions, and nothing else: each job fails, retries and parks by itself."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.outbox.batch_delivery import Backoff
from servicekit.outbox.handler import PermanentError, Topic
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction
from tests.eventually import eventually
from tests.servicekit.outbox_cases import (
    Gate,
    Scripted,
    enqueue,
    job,
    requeue,
    running_worker,
    settings,
    until_state,
)

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

TOPICS = ("one", "two", "three")


class Effects(Scripted):
    """Counts each completed job in the database, and cannot complete what is `broken`."""

    def __init__(self, *broken: tuple[str, str]) -> None:
        super().__init__()
        self.broken = set(broken)
        # The topics and the number of jobs of each transaction that was tried.
        self.tried: list[tuple[frozenset[str], int]] = []

    async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        self.tried.append((frozenset(job.topic for job in jobs), len(jobs)))
        # The others first: what they wrote has to go with the transaction that fails.
        for done in sorted(jobs, key=lambda job: (job.topic, job.dedup_key) in self.broken):
            if (done.topic, done.dedup_key) in self.broken:
                await transaction.connection.execute(text("SELECT 1 / 0"))
            transaction.count("effects", f"{done.topic} {done.dedup_key}")


def joined(handler: Scripted, **fields: Any) -> list[Topic]:
    return [Topic(TOPICS[0], handler, joined=TOPICS[1:], linger=timedelta(milliseconds=20), **fields)]


async def took_effect(rows: "Rows") -> Counter[str]:
    found = await rows.fetch("SELECT label, value FROM counters WHERE name = 'effects'")
    return Counter({row["label"]: row["value"] for row in found})


def once(*topics: str, keys: Sequence[object]) -> Counter[str]:
    return Counter(f"{topic} {key}" for topic in topics for key in keys)


async def test_jobs_of_joined_topics_are_done_in_one_transaction(engine: AsyncEngine, rows: "Rows") -> None:
    handler = Effects()
    for topic in TOPICS:
        await enqueue(engine, range(5), topic)
    async with running_worker(engine, joined(handler)):
        for topic in TOPICS:
            await until_state(rows, "DONE", *range(5), topic=topic)
    assert handler.tried == [(frozenset(TOPICS), 15)]
    assert await took_effect(rows) == once(*TOPICS, keys=range(5))
    assert len({row["done_time"] for row in await rows.fetch("SELECT done_time FROM outbox")}) == 1


async def test_a_failure_in_the_shared_transaction_neither_loses_nor_doubles_another_job(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    handler = Effects(("two", "3"))
    for topic in TOPICS:
        await enqueue(engine, range(5), topic)
    # It waits for its next try, which does not come.
    patient = settings(backoff=Backoff(timedelta(hours=1), timedelta(hours=1)))
    async with running_worker(engine, joined(handler), patient):
        await until_state(rows, "DONE", *range(5), topic="one")
        await until_state(rows, "DONE", *range(5), topic="three")
        await until_state(rows, "DONE", 0, 1, 2, 4, topic="two")
        failed = await eventually(
            lambda: job(rows, "3", "two"),
            lambda row: row["last_error"] is not None and not row["lease_token"],
        )
    assert (failed["state"], failed["attempts"]) == ("PENDING", 1)
    others = once("one", "three", keys=range(5)) + once("two", keys=(0, 1, 2, 4))
    assert await took_effect(rows) == others
    # Those of the other topics lost one transaction: they are not tried one by one.
    assert [tried for tried in handler.tried if "two" not in tried[0] or len(tried[0]) > 1] == [
        (frozenset(TOPICS), 15),
        (frozenset({"one"}), 5),
        (frozenset({"three"}), 5),
    ]


async def test_a_job_that_is_parked_and_re_queued_takes_effect_once(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    class Refuses(Effects):
        async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
            if any((each.topic, each.dedup_key) in self.broken for each in jobs):
                raise PermanentError("not this one")
            await super().complete(transaction, jobs)

    handler = Refuses(("three", "1"))
    for topic in TOPICS:
        await enqueue(engine, range(3), topic)
    async with running_worker(engine, joined(handler)) as worker:
        await until_state(rows, "PARKED", 1, topic="three")
        handler.broken.clear()
        await requeue(engine, 1, "three")
        worker.wake()
        for topic in TOPICS:
            await until_state(rows, "DONE", *range(3), topic=topic)
    assert handler.parked_jobs == [("1", "not this one")]
    assert await took_effect(rows) == once(*TOPICS, keys=range(3))


async def test_room_is_counted_by_topic_and_a_batch_has_so_many_of_each(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    gate = Gate()
    handler = Scripted(gate)
    for topic in TOPICS:
        await enqueue(engine, range(7), topic)
    async with running_worker(engine, joined(handler, max_batch=2)) as worker:
        await gate.reached()
        # Two of each that run and two of each that wait.
        assert not any(worker.has_room(topic, 1) for topic in TOPICS)
        gate.open.set()
        for topic in TOPICS:
            await until_state(rows, "DONE", *range(7), topic=topic)
    assert max(map(len, handler.batches)) == 2 * len(TOPICS)


async def test_a_wake_up_claims_no_topic_that_is_only_polled(engine: AsyncEngine, rows: "Rows") -> None:
    gate, seldom = Gate(), Scripted()
    topics = [
        Topic("t", Scripted(gate), max_batch=1, concurrency=1),
        Topic("disabled", seldom, only_polled=True),
    ]
    statements: Counter[str] = Counter()

    def count(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements["claim"] += "SKIP LOCKED" in statement

    async with running_worker(engine, topics) as worker:
        await enqueue(engine, range(3))
        await gate.reached()
        await eventually(lambda: _is(not worker.has_room("t", 1)))
        await enqueue(engine, ["a"], "disabled")
        event.listen(engine.sync_engine, "before_cursor_execute", count)
        try:
            # Nothing has room that could have a job: a claim would cost a statement for nothing.
            for _ in range(5):
                worker.wake()
                await rows.execute("SELECT 1")
            assert statements["claim"] == 0
        finally:
            event.remove(engine.sync_engine, "before_cursor_execute", count)
        gate.open.set()
        await until_state(rows, "DONE", *range(3))
        assert (await job(rows, "a", "disabled"))["state"] == "PENDING"
    async with running_worker(engine, topics):
        # Its first claim is a poll.
        await until_state(rows, "DONE", "a", topic="disabled")


async def _is(condition: bool) -> bool:
    return condition
