"""The worker: claims due jobs for its topics and hands them to the topics' runners."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.engine import autocommit, is_unavailable
from servicekit.outbox import queue
from servicekit.outbox.handler import Topic
from servicekit.outbox.queue import Job
from servicekit.outbox.tables import NOTIFY_CHANNEL
from servicekit.outbox.throttle import BackgroundThrottle
from servicekit.outbox.topic_runner import Backoff, TopicRunner
from servicekit.outbox.wakeup import listen

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker claims and retries."""

    # How long a claimed job stays this worker's; after a crash it waits this long for another.
    lease: timedelta = timedelta(seconds=30)
    # A lost notification costs at most about this long.
    poll: timedelta = timedelta(seconds=1)
    # A job whose holder died this many times in a row is parked: it probably kills its workers.
    max_crashes: int = 5
    # How long a stopping worker lets batches in flight finish.
    drain: timedelta = timedelta(seconds=10)
    # Done jobs older than this are removed; None keeps them for ever.
    keep_done: timedelta | None = None
    backoff: Backoff = field(default_factory=Backoff)
    # While callers wait for this process, a batch waits for them, at most this long: then it runs all the same.
    throttle: timedelta = timedelta(seconds=5)


class OutboxWorker:
    """Delivers the jobs of `topics`; run as many processes of it as you like on one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        topics: Sequence[Topic],
        settings: WorkerSettings,
        *,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`busy` tells whether callers wait for this process now. Raises ValueError when a topic's timeout does not fit into the lease."""
        for topic in topics:
            if topic.timeout >= settings.lease:
                raise ValueError(f"the timeout of topic {topic.name} must be shorter than the lease")
        self._engine = engine
        self._one_statement = autocommit(engine)
        self._settings = settings
        self._work = asyncio.Event()
        self._stopping = False
        self._runners = {
            topic.name: TopicRunner(
                topic,
                engine,
                lease=settings.lease,
                backoff=settings.backoff,
                on_free=self._freed,
                throttle=BackgroundThrottle(busy, settings.throttle),
            )
            for topic in topics
        }
        self._more_due = False

    @property
    def lease(self) -> timedelta:
        """The lease that jobs given to `offer` must have been enqueued with."""
        return self._settings.lease

    def wake(self) -> None:
        """Say that jobs may have been enqueued: look now, not at the next poll."""
        self._work.set()

    def has_room(self, topic: str, jobs: int) -> bool:
        """Tell whether so many jobs of a topic can be taken now: not when many wait already, nor when stopping."""
        return not self._stopping and self._runners[topic].free >= jobs

    def offer(self, jobs: Sequence[Job]) -> None:
        """Run jobs that this process just committed under a lease of its own: tried at once, without a claim.

        A worker that is stopping leaves them to whoever claims them when the lease ends.
        """
        if not self._stopping:
            self._put(jobs)

    async def run(self) -> None:
        """Claim and run jobs until cancelled; then let batches in flight finish and give back the rest."""
        listener = asyncio.create_task(listen(self._engine, NOTIFY_CHANNEL, self.wake))
        janitor = asyncio.create_task(self._remove_done())
        try:
            while True:
                self._work.clear()
                await self._claim()
                jitter = 0.9 + 0.2 * random.random()  # noqa: S311 - jitter, not a secret
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll.total_seconds() * jitter):
                        await self._work.wait()
        finally:
            stopping = asyncio.ensure_future(self._stop(listener, janitor))
            # Cancelled again, it is not done faster: leases are given back first, within the drain time.
            while not stopping.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(stopping)

    async def _stop(self, *background: asyncio.Task[None]) -> None:
        self._stopping = True
        for runner in self._runners.values():
            runner.stop()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._drain()

    def _freed(self) -> None:
        if self._more_due:
            self._work.set()

    def _put(self, jobs: Sequence[Job]) -> None:
        by_topic: dict[str, list[Job]] = {}
        for job in jobs:
            by_topic.setdefault(job.topic, []).append(job)
        for topic, together in by_topic.items():
            self._runners[topic].put(together)

    async def _claim(self) -> None:
        """Claim what is due, as much as the runners have room for."""
        free = {name: runner.free for name, runner in self._runners.items() if runner.free > 0}
        # Until a claim comes back with less than it asked for, there may be more.
        self._more_due = True
        if not free:
            return
        claiming = asyncio.ensure_future(self._claim_due(free))
        try:
            runnable, poisoned = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # What is being claimed may be committed already: it is taken in hand, to be given back.
            for runner in self._runners.values():
                runner.stop()
            with contextlib.suppress(Exception):
                runnable, poisoned = await claiming
                self._put([*runnable, *poisoned])
            raise
        except Exception as exc:
            # The next poll tries again; nothing is lost meanwhile, only later.
            _log.warning("outbox_claim_failed", error=type(exc).__name__, database_away=is_unavailable(exc))
            return
        self._put(runnable)
        for job in poisoned:
            await self._park(job)
        claimed = Counter(job.topic for job in [*runnable, *poisoned])
        full = any(claimed[topic] >= room for topic, room in free.items())
        self._more_due = full or len(free) < len(self._runners)

    async def _claim_due(self, free: Mapping[str, int]) -> tuple[Sequence[Job], Sequence[Job]]:
        async with self._one_statement.connect() as connection:
            return await queue.claim(
                connection, free, lease=self._settings.lease, max_crashes=self._settings.max_crashes
            )

    async def _park(self, job: Job) -> None:
        try:
            await self._runners[job.topic].park([job], "its worker died at every attempt")
        except Exception as exc:
            # Its lease ends, and whoever claims it next tries to park it again.
            _log.error("outbox_parking_failed", topic=job.topic, job_id=job.job_id, exc_info=exc)

    async def _remove_done(self) -> None:
        keep = self._settings.keep_done
        if keep is None:
            return
        while True:
            try:
                async with self._one_statement.connect() as connection:
                    removed = await queue.remove_done(connection, older_than=keep, limit=1000)
            except Exception as exc:
                _log.warning(
                    "outbox_removal_failed", error=type(exc).__name__, database_away=is_unavailable(exc)
                )
                removed = 0
            # Small batches with a pause between them: removal never holds up delivery.
            await asyncio.sleep(0.1 if removed else 60.0)

    async def _drain(self) -> None:
        running = [task for runner in self._runners.values() for task in runner.running]
        if running:
            _, late = await asyncio.wait(running, timeout=self._settings.drain.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        waiting = [job for runner in self._runners.values() for job in runner.take_back()]
        if waiting:
            try:
                async with self._one_statement.connect() as connection:
                    await queue.release(connection, waiting)
            except Exception as exc:
                _log.warning(
                    "outbox_release_failed", error=type(exc).__name__, database_away=is_unavailable(exc)
                )
