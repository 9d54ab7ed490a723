"""The worker: claims due jobs for its topics and adds them to the topics' runners."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from servicekit.database.errors import is_unavailable
from servicekit.database.failure_log import FailureLog
from servicekit.outbox import queue
from servicekit.outbox.batch_delivery import Backoff
from servicekit.outbox.handler import Topic
from servicekit.outbox.quarantine import Quarantine
from servicekit.outbox.queue import Job
from servicekit.outbox.tables import NOTIFY_CHANNEL
from servicekit.outbox.throttle import BackgroundThrottle
from servicekit.outbox.topic_runner import TopicRunner
from servicekit.outbox.transaction import Transactions
from servicekit.outbox.wakeup import listen
from servicekit.process.periodic import run_periodically

_log = structlog.get_logger()

# Done jobs are removed in small batches with a pause between them, so that removal never holds up delivery.
_REMOVED_BATCH = 1000
_REMOVE_PAUSE = timedelta(milliseconds=100)
_REMOVE_EVERY = timedelta(minutes=1)
# Beyond any lease, backoff and Retry-After, which is an hour at most: a job that is due later waits for a clock that was
# set back.
_LONGEST_WAIT = timedelta(hours=1, minutes=5)
_CLOCK_CHECK_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker claims and retries."""

    # A lost notification costs at most about this long.
    poll: timedelta = timedelta(seconds=1)
    # A job whose holders died this many times in a row is a suspect: from then on it runs alone.
    max_crashes: int = 5
    # A suspect whose holders died this many times more, with no other job in their hands, is parked.
    max_crashes_alone: int = 3
    # How long a stopping worker lets batches in flight finish.
    drain: timedelta = timedelta(seconds=10)
    # Done jobs older than this are removed; None keeps them for ever.
    keep_done: timedelta | None = None
    backoff: Backoff = field(default_factory=Backoff)


class OutboxWorker:
    """Delivers the jobs of `topics`. Any number of processes may run it on one database: claims are disjoint."""

    def __init__(
        self,
        transactions: Transactions,
        topics: Sequence[Topic],
        settings: WorkerSettings,
        *,
        throttle: BackgroundThrottle | None = None,
    ) -> None:
        """Attach to the outbox of `transactions`. Raises ValueError when a topic's timeout does not fit into its lease.

        `throttle` holds batches back while the process serves many RPCs.
        """
        self._lease = transactions.outbox.lease
        for topic in topics:
            if topic.timeout >= self._lease:
                raise ValueError(f"the timeout of topic {topic.name} must be shorter than the lease")
        self._transactions = transactions
        self._settings = settings
        self._work = asyncio.Event()
        self._stopping = False
        quarantine = Quarantine()
        runners = [
            TopicRunner(
                topic,
                transactions,
                backoff=settings.backoff,
                on_free=self._freed,
                on_due=self.wake,
                throttle=throttle or BackgroundThrottle.off(),
                quarantine=quarantine,
            )
            for topic in topics
        ]
        self._distinct_runners = runners
        # By each topic's name: joined topics have one runner.
        self._runners = {name: runner for runner in runners for name in runner.topic.names}
        self._more_due = False
        self._claim_failures = FailureLog("outbox_claim_failed")
        transactions.outbox.attach(self)

    def wake(self) -> None:
        """Claim due jobs now instead of at the next poll."""
        self._work.set()

    def has_room(self, topic: str, jobs: int) -> bool:
        """Return whether so many jobs of a topic can be taken now: not when many wait already, nor when stopping."""
        runner = self._runners.get(topic)
        return runner is not None and not self._stopping and runner.free(topic) >= jobs

    def dispatch(self, jobs: Sequence[Job]) -> None:
        """Run jobs that this process inserted leased and committed: at once, without a claim.

        A worker that is stopping leaves them: another process claims them when the lease ends.
        """
        if not self._stopping:
            self._add(jobs)

    async def run(self) -> None:
        """Claim and run jobs until cancelled; then let batches in flight finish and release the others."""
        listener = asyncio.create_task(listen(self._transactions.sessions, NOTIFY_CHANNEL, self.wake))
        janitor = asyncio.create_task(
            run_periodically("outbox_removal", self._remove_done, every=_REMOVE_EVERY, pause=_REMOVE_PAUSE)
        )
        clock_watch = asyncio.create_task(
            run_periodically("outbox_clock_check", self._end_future_waits, every=_CLOCK_CHECK_EVERY)
        )
        loop = asyncio.get_running_loop()
        next_poll = loop.time()
        try:
            while True:
                self._work.clear()
                polls = loop.time() >= next_poll
                if polls:
                    jitter = 0.9 + 0.2 * random.random()  # noqa: S311 - jitter, not a secret
                    next_poll = loop.time() + self._settings.poll.total_seconds() * jitter
                await self._claim(polls=polls)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_poll):
                        await self._work.wait()
        finally:
            stopping = asyncio.ensure_future(self._stop(listener, janitor, clock_watch))
            # A second cancellation makes it no faster: leases are released first, within the drain time.
            while not stopping.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(stopping)

    async def _stop(self, *background: asyncio.Task[None]) -> None:
        self._stopping = True
        for runner in self._distinct_runners:
            runner.stop()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._drain()

    def _freed(self) -> None:
        if self._more_due:
            self._work.set()

    def _add(self, jobs: Sequence[Job]) -> None:
        by_runner: dict[TopicRunner, list[Job]] = {}
        for job in jobs:
            by_runner.setdefault(self._runners[job.topic], []).append(job)
        for runner, together in by_runner.items():
            runner.add(together)

    async def _claim(self, *, polls: bool) -> None:
        """Claim what is due, as much as the runners have room for; of topics that are only polled, only at a poll."""
        claimable = {
            name: runner.free(name)
            for name, runner in self._runners.items()
            if polls or not runner.topic.only_polled
        }
        free = {name: room for name, room in claimable.items() if room > 0}
        # Until a claim returns less than its limit, there may be more.
        self._more_due = True
        if not free:
            return
        claiming = asyncio.ensure_future(self._claim_due(free))
        try:
            claimed = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The claim may be committed already: its jobs are added, to be released.
            for runner in self._distinct_runners:
                runner.stop()
            with contextlib.suppress(Exception):
                self._add([job for job, _ in await claiming])
            raise
        except Exception as exc:
            # The next poll tries again; nothing is lost meanwhile, only later.
            self._claim_failures.failed(exc)
            return
        self._claim_failures.succeeded()
        await self._add_claimed(claimed)
        counts = Counter(job.topic for job, _ in claimed)
        full = any(counts[topic] >= room for topic, room in free.items())
        self._more_due = full or len(free) < len(claimable)

    async def _claim_due(self, free: Mapping[str, int]) -> Sequence[tuple[Job, int]]:
        async with self._transactions.statement() as connection:
            return await queue.claim(connection, free, lease=self._lease)

    async def _add_claimed(self, claimed: Sequence[tuple[Job, int]]) -> None:
        """Run claimed jobs: together, alone when their holders kept dying, or park those that died alone as well."""
        suspects = self._settings.max_crashes
        guilty = suspects + self._settings.max_crashes_alone
        innocent: list[Job] = []
        for job, crashes in claimed:
            runner = self._runners[job.topic]
            if crashes < suspects or runner.topic.only_requests:
                innocent.append(job)
            elif crashes < guilty:
                _log.warning("outbox_suspect_runs_alone", topic=job.topic, job_id=job.job_id, crashes=crashes)
                runner.add_suspect(job)
            else:
                await self._park(job)
        self._add(innocent)

    async def _park(self, job: Job) -> None:
        try:
            await self._runners[job.topic].park([job], "its worker died at every attempt")
        except Exception as exc:
            # Its lease ends, and the process that claims it next tries to park it again.
            _log.error("outbox_parking_failed", topic=job.topic, job_id=job.job_id, exc_info=exc)

    async def _remove_done(self) -> bool:
        """Remove a batch of done jobs; returns whether there may be more."""
        keep = self._settings.keep_done
        if keep is None:
            return False
        async with self._transactions.statement() as connection:
            removed = await queue.remove_done(
                connection, list(self._runners), older_than=keep, limit=_REMOVED_BATCH
            )
        return removed > 0

    async def _end_future_waits(self) -> bool:
        async with self._transactions.statement() as connection:
            ended = await queue.end_future_waits(connection, list(self._runners), longest=_LONGEST_WAIT)
        if ended:
            _log.warning("outbox_clock_set_back", jobs=ended)
            self.wake()
        return False

    async def _drain(self) -> None:
        running = [task for runner in self._distinct_runners for task in runner.running]
        if running:
            _, late = await asyncio.wait(running, timeout=self._settings.drain.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        waiting = [job for runner in self._distinct_runners for job in runner.drain_unstarted()]
        if waiting:
            try:
                async with self._transactions.statement() as connection:
                    await queue.release(connection, waiting)
            except Exception as exc:
                _log.warning(
                    "outbox_release_failed", error=type(exc).__name__, database_away=is_unavailable(exc)
                )
