"""Workers and handlers for the tests of the outbox, and what they look at."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.outbox import dead_letters, queue
from servicekit.outbox.batch_delivery import Backoff
from servicekit.outbox.handler import Handler, Topic
from servicekit.outbox.jobs import JobState
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.queue import Job, NewJob
from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.outbox.worker import OutboxWorker, WorkerSettings
from tests.eventually import eventually
from tests.outbox_due import make_due
from tests.services import TIMEOUT_SECONDS

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

LEASE = timedelta(seconds=30)
# So rare that what a test sees came from something else.
NEVER = timedelta(hours=1)
AT_ONCE = Backoff(base=timedelta(0))

Deliver = Callable[[Sequence[Job]], Awaitable[Sequence[Exception | None]]]


class Scripted(Handler):
    """Keeps what it was given, and does what a test puts in the place of its methods."""

    def __init__(self, deliver: Deliver | None = None) -> None:
        self.delivered: list[str] = []
        self.batches: list[list[str]] = []
        self.completed: list[str] = []
        self.parked_jobs: list[tuple[str, str]] = []
        self._deliver = deliver

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        keys = [job.dedup_key for job in jobs]
        self.delivered += keys
        self.batches.append(keys)
        if self._deliver is not None:
            return await self._deliver(jobs)
        return [None] * len(jobs)

    async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        self.completed += [job.dedup_key for job in jobs]

    async def parked(self, transaction: Transaction, job: Job, reason: str) -> None:
        self.parked_jobs.append((job.dedup_key, reason))


class Gate:
    """A deliver that says when it began and goes on when it may."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self._reached = asyncio.Event()

    async def reached(self) -> None:
        """Return when a delivery has begun."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self._reached.wait()

    async def __call__(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        self._reached.set()
        await self.open.wait()
        return [None] * len(jobs)


def each(outcome: Callable[[Job], Exception | None]) -> Deliver:
    """A deliver that answers for each job by itself."""

    async def deliver(jobs: Sequence[Job]) -> Sequence[Exception | None]:
        return [outcome(job) for job in jobs]

    return deliver


def settings(**changes: Any) -> WorkerSettings:
    """A worker that never polls and retries at once, unless changed."""
    usual: dict[str, Any] = {"poll": NEVER, "backoff": AT_ONCE}
    return WorkerSettings(**(usual | changes))


def transactions(engine: AsyncEngine, lease: timedelta = LEASE) -> Transactions:
    """Units of work whose outbox has no worker yet."""
    return Transactions(engine, Outbox(lease=lease))


@asynccontextmanager
async def running_worker(
    engine: AsyncEngine,
    topics: Sequence[Topic] | Handler,
    how: WorkerSettings | None = None,
    *,
    lease: timedelta = LEASE,
) -> AsyncIterator[OutboxWorker]:
    """A worker, run until the block ends. A handler alone is the topic `t`."""
    worker = OutboxWorker(transactions(engine, lease), _topics(topics), how or settings())
    task = asyncio.create_task(worker.run())
    try:
        yield worker
        assert not task.done(), "the worker ended by itself"
    finally:
        await ended(task)


def dispatch_only_worker(engine: AsyncEngine, handler: Handler) -> OutboxWorker:
    """A worker that runs what is dispatched to it and never claims.

    When the lease of its job has ended, it cannot be the one that claims the job again.
    """
    return OutboxWorker(transactions(engine), _topics(handler), settings())


def _topics(topics: Sequence[Topic] | Handler) -> Sequence[Topic]:
    if isinstance(topics, Handler):
        return [Topic("t", topics, timeout=LEASE - timedelta(seconds=5))]
    return topics


async def ended(worker: asyncio.Task[None]) -> None:
    """Stop a worker and return when it has stopped."""
    worker.cancel()
    await asyncio.wait([worker])
    if not worker.cancelled() and (error := worker.exception()) is not None:
        raise error


def jobs_of(keys: Iterable[object], topic: str = "t") -> list[NewJob]:
    """Intents with these dedup keys; each carries its key."""
    return [NewJob(topic, str(key), {"key": str(key)}) for key in keys]


async def enqueue(
    engine: AsyncEngine, keys: Iterable[object], topic: str = "t", *, lease: timedelta | None = None
) -> Sequence[Job]:
    """Enqueue and commit."""
    async with engine.begin() as connection:
        return await queue.enqueue(
            connection,
            jobs_of(keys, topic),
            lease=lease or timedelta(0),
            leased=() if lease is None else (topic,),
        )


async def requeue(engine: AsyncEngine, key: object, topic: str = "t") -> None:
    """Re-queue a dead letter, and commit."""
    async with engine.begin() as connection:
        found = await dead_letters.get_by_key_for_update(connection, topic, str(key))
        assert found is not None
        assert (await dead_letters.requeue(connection, found, actor="operator")).state is JobState.PENDING


async def claim(
    engine: AsyncEngine, limit: int = 100, topic: str = "t", *, max_crashes: int = 5
) -> tuple[Sequence[Job], Sequence[Job]]:
    """Claim and commit: the jobs, and those whose holders died `max_crashes` times in a row or more."""
    async with engine.begin() as connection:
        claimed = await queue.claim(connection, {topic: limit}, lease=LEASE)
    return (
        [job for job, crashes in claimed if crashes < max_crashes],
        [job for job, crashes in claimed if crashes >= max_crashes],
    )


async def end_leases(rows: "Rows") -> None:
    """Let the time of every lease and backoff pass."""
    await make_due(rows)


async def job(rows: "Rows", key: object, topic: str = "t") -> "asyncpg.Record":
    """A job's row."""
    row = await rows.fetchrow("SELECT * FROM outbox WHERE topic = $1 AND dedup_key = $2", topic, str(key))
    assert row is not None
    return row


async def until_state(rows: "Rows", state: str, *keys: object, topic: str = "t") -> None:
    """Return when all of these jobs are in a state."""

    async def missing() -> int:
        count: int = await rows.fetchval(
            "SELECT count(*) FROM outbox WHERE topic = $1 AND dedup_key = ANY ($2) AND state = $3",
            topic,
            [str(key) for key in keys],
            state,
        )
        return len(keys) - count

    await eventually(missing, lambda count: count == 0)


async def listening(rows: "Rows") -> None:
    """Return when a worker listens for notifications on a connection that does nothing else."""

    async def count() -> int:
        found: int = await rows.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        return found

    await eventually(count)
