"""Runs the leased jobs of a topic, and of those joined to it: in batches, so many at a time, suspects alone."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence

import structlog

from servicekit.outbox.batch_delivery import Backoff, BatchDelivery
from servicekit.outbox.handler import Topic
from servicekit.outbox.quarantine import Quarantine
from servicekit.outbox.queue import Job
from servicekit.outbox.throttle import BackgroundThrottle
from servicekit.outbox.transaction import Transactions

_log = structlog.get_logger()

# A batch gathers for so many times its topic's linger, while jobs keep coming.
_MAX_LINGERS = 10


class TopicRunner:
    """Runs the jobs of one topic, and of those joined to it, that this process holds leases on."""

    def __init__(
        self,
        topic: Topic,
        transactions: Transactions,
        *,
        backoff: Backoff,
        on_free: Callable[[], None],
        on_due: Callable[[], None],
        throttle: BackgroundThrottle,
        quarantine: Quarantine,
    ) -> None:
        """`on_free` is called whenever a batch ends: there is room to claim more. `on_due`: jobs are due before their time."""
        self.topic = topic
        self._lease = transactions.outbox.lease
        self._delivery = BatchDelivery(topic, transactions, backoff, on_due=on_due)
        self._on_free = on_free
        self._throttle = throttle
        self._quarantine = quarantine
        # Runs that have not taken their batch yet.
        self._held_back = 0
        self._waiting: deque[tuple[Job, float]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._interrupted: list[Job] = []
        # By topic.
        self._in_hand: Counter[str] = Counter()
        self._batch_size = topic.max_batch * len(topic.names)
        self._added = 0
        self._stopping = False

    def free(self, topic: str) -> int:
        """Return how many more jobs of a topic this runner will take: enough to keep it busy, few enough for one lease."""
        return max(0, self.topic.max_batch * (self.topic.concurrency + 1) - self._in_hand[topic])

    @property
    def running(self) -> frozenset[asyncio.Task[None]]:
        """The batches in flight."""
        return frozenset(self._running)

    def add(self, jobs: Sequence[Job]) -> None:
        """Add jobs whose lease began now."""
        deadline = self._deadline()
        self._waiting.extend((job, deadline) for job in jobs)
        self._in_hand.update(job.topic for job in jobs)
        self._added += len(jobs)
        self._start()

    def add_suspect(self, job: Job) -> None:
        """Add a job whose lease began now and whose holders kept dying: it runs alone."""
        self._in_hand[job.topic] += 1
        self._track(asyncio.create_task(self._run_alone(job, self._deadline())))

    def stop(self) -> None:
        """Begin no further batch; those in flight go on."""
        self._stopping = True

    def drain_unstarted(self) -> Sequence[Job]:
        """Remove and return the jobs that have not started, and those whose batch was cancelled."""
        jobs = [*self._interrupted, *(job for job, _ in self._waiting)]
        self._in_hand.subtract(job.topic for job, _ in self._waiting)
        self._waiting.clear()
        self._interrupted.clear()
        return jobs

    def _start(self) -> None:
        while (
            not self._stopping
            and len(self._running) < self.topic.concurrency
            and len(self._waiting) > self._held_back * self._batch_size
        ):
            self._held_back += 1
            self._track(asyncio.create_task(self._run()))

    def _track(self, task: asyncio.Task[None]) -> None:
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _deadline(self) -> float:
        # Leave enough of the lease for one delivery: a job that waits longer than that is released, not run late.
        return asyncio.get_running_loop().time() + (self._lease - self.topic.timeout).total_seconds()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("outbox_batch_lost", topic=self.topic.name, exc_info=error)
        self._start()
        self._on_free()

    async def _run(self) -> None:
        try:
            await self._linger()
            await self._throttle.wait()
            await self._quarantine.enter()
        finally:
            self._held_back -= 1
        try:
            await self._run_batch(self._take_batch())
        finally:
            self._quarantine.leave()

    async def _linger(self) -> None:
        """Wait until no job has come for the topic's linger, or there are enough for a batch: not for long."""
        for _ in range(_MAX_LINGERS if self.topic.linger else 0):
            added = self._added
            if len(self._waiting) >= self._batch_size:
                return
            await asyncio.sleep(self.topic.linger.total_seconds())
            if self._added == added:
                return

    def _take_batch(self) -> Sequence[tuple[Job, float]]:
        if self._stopping:
            return []
        return [self._waiting.popleft() for _ in range(min(self._batch_size, len(self._waiting)))]

    async def _run_alone(self, job: Job, deadline: float) -> None:
        started = False
        try:
            async with self._quarantine.alone():
                if not self._stopping:
                    started = True
                    await self._run_batch([(job, deadline)])
        finally:
            if not started:
                self._in_hand[job.topic] -= 1
                self._interrupted.append(job)

    async def _run_batch(self, batch: Sequence[tuple[Job, float]]) -> None:
        now = asyncio.get_running_loop().time()
        late = [job for job, deadline in batch if deadline <= now]
        try:
            if late:
                await self._delivery.release(late)
            await self._delivery.deliver([job for job, deadline in batch if deadline > now])
        except asyncio.CancelledError:
            # Those already marked keep their mark: the release is bound to the lease token.
            self._interrupted.extend(job for job, _ in batch)
            raise
        finally:
            self._in_hand.subtract(job.topic for job, _ in batch)

    async def park(self, jobs: Sequence[Job], reason: str) -> None:
        """Park jobs without trying them: their attempts kept killing the worker."""
        await self._delivery.park(jobs, reason)
