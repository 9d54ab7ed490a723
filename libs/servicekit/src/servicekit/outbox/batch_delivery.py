"""Delivers a batch of leased jobs and marks it: done, skipped, failed with a backoff, or parked."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy.exc import DBAPIError, ProgrammingError

from servicekit.database.errors import is_unavailable, sqlstate
from servicekit.outbox import queue
from servicekit.outbox.handler import DeliveryError, PermanentError, Topic
from servicekit.outbox.outage import Outage
from servicekit.outbox.queue import Failure, Job
from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.process.failpoints import failpoint
from servicekit.process.log import redact_url_passwords

_log = structlog.get_logger()

# A bug in a handler, not an outage: logged at once as an error, and still retried, since a deploy mends it.
_BUGS = (ProgrammingError, TypeError, AttributeError, NameError, LookupError, AssertionError)
# Jobs whose backoff one statement ends.
_ENDED_BACKOFFS = 1000


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter."""

    base: timedelta = timedelta(milliseconds=200)
    cap: timedelta = timedelta(seconds=60)

    def delay(self, attempts: int) -> timedelta:
        """Return a random delay below `base` x 2^(attempts - 1), at most `cap`."""
        # 2^30 x any base is past any cap: keep the power small enough for a float.
        ceiling = min(self.cap, self.base * 2.0 ** min(attempts - 1, 30))
        return ceiling * random.random()  # noqa: S311 - jitter, not a secret


class BatchDelivery:
    """Delivers batches of one topic, and of those joined to it, over one database."""

    def __init__(
        self, topic: Topic, transactions: Transactions, backoff: Backoff, *, on_due: Callable[[], None]
    ) -> None:
        """`on_due` is called when jobs are due before their time."""
        self.topic = topic
        self._on_due = on_due
        self._outage = Outage()
        self._transactions = transactions
        self._lease = transactions.outbox.lease
        self._backoff = backoff

    async def deliver(self, jobs: Sequence[Job]) -> None:
        """Deliver the jobs and mark them. When it is cancelled, those already marked keep their mark."""
        wanted = await self._skip_unwanted(jobs)
        if not wanted:
            return
        _failpoints("outbox_claimed", wanted)
        outcomes = await self._outcomes(wanted)
        _failpoints("outbox_delivered", wanted)
        pairs = list(zip(wanted, outcomes, strict=True))
        await self._complete([job for job, error in pairs if error is None])
        await self._fail([(job, error) for job, error in pairs if error is not None])
        if self.topic.one_target and self._outage.ends_with(outcomes):
            await self._end_backoffs()

    async def _end_backoffs(self) -> None:
        """Make what waits for its backoff due now: the system that could not be reached has answered.

        What fails again waits as before. Where this fails, the backoffs end by themselves.
        """
        due = 0
        ended = _ENDED_BACKOFFS
        try:
            while ended == _ENDED_BACKOFFS:
                async with self._transactions.statement() as connection:
                    ended = await queue.end_backoffs(connection, self.topic.names, limit=_ENDED_BACKOFFS)
                due += ended
                if ended:
                    self._on_due()
        except Exception as exc:
            _log.warning("outbox_backoffs_kept", topic=self.topic.name, error=_describe(exc))
        if due:
            _log.info("outbox_outage_ended", topic=self.topic.name, due=due)

    async def _outcomes(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        try:
            async with asyncio.timeout(self.topic.timeout.total_seconds()):
                outcomes = await self.topic.handler.deliver(jobs)
            if len(outcomes) != len(jobs):
                raise AssertionError(f"the handler returned {len(outcomes)} outcomes for {len(jobs)} jobs")
        except asyncio.CancelledError:
            # Either this batch is being cancelled, or a library ended the call so (a closed channel does).
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return [ConnectionError("the call was cancelled")] * len(jobs)
        except Exception as exc:
            return [exc] * len(jobs)
        return outcomes

    async def _skip_unwanted(self, jobs: Sequence[Job]) -> Sequence[Job]:
        wanted: list[Job] = []
        by_reason: dict[str, list[Job]] = {}
        unjudged: list[tuple[Job, Exception]] = []
        for job in jobs:
            try:
                reason = self.topic.handler.skip_reason(job)
            except Exception as exc:
                unjudged.append((job, exc))
            else:
                (wanted if reason is None else by_reason.setdefault(reason, [])).append(job)
        await self._fail(unjudged)

        async def mark(transaction: Transaction) -> None:
            for reason, unwanted in by_reason.items():
                mine = await queue.mark_done(transaction.connection, unwanted, skip_reason=reason)
                if kept := [job for job in unwanted if job.job_id in mine]:
                    await self.topic.handler.skipped(transaction, kept, reason)

        if by_reason:
            unwanted = [job for together in by_reason.values() for job in together]
            try:
                await self._until_marked(mark, unwanted)
            except Exception as exc:
                await self._fail([(job, exc) for job in unwanted])
        return wanted

    async def _complete(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return

        async def mark(transaction: Transaction) -> None:
            mine = await queue.mark_done(transaction.connection, jobs)
            kept = [job for job in jobs if job.job_id in mine]
            if len(kept) < len(jobs):
                _log.warning("outbox_lease_lost", topic=self.topic.name, jobs=len(jobs) - len(kept))
            if kept:
                await self.topic.handler.complete(transaction, kept)
            _failpoints("outbox_before_done_commit", kept)

        try:
            await self._until_marked(mark, jobs)
        except Exception as exc:
            if len(jobs) == 1:
                await self._fail([(jobs[0], exc)])
                return
            # One job's data can spoil the transaction of all: alone, only that one fails. What is wrong with one topic costs
            # the others one transaction.
            by_topic: dict[str, list[Job]] = {}
            for job in jobs:
                by_topic.setdefault(job.topic, []).append(job)
            smaller = list(by_topic.values()) if len(by_topic) > 1 else [[job] for job in jobs]
            for together in smaller:
                await self._complete(together)

    async def _fail(self, failed: Sequence[tuple[Job, Exception]]) -> None:
        if not failed:
            return
        failures = [self._failure(job, error) for job, error in failed]

        async def mark(transaction: Transaction) -> None:
            mine = await queue.mark_failed(transaction.connection, failures)
            for failure in failures:
                if failure.retry_after is None and failure.job.job_id in mine:
                    await self.topic.handler.parked(transaction, failure.job, failure.error)

        await self._until_marked(mark, [job for job, _ in failed])

    def _failure(self, job: Job, error: Exception) -> Failure:
        text = _describe(error)
        details = {"topic": job.topic, "job_id": job.job_id, "attempts": job.attempts, "error": text}
        if isinstance(error, PermanentError):
            _log.error("outbox_job_parked", **details)
            return Failure(job, text, None, error.progress)
        delay = self._backoff.delay(job.attempts)
        if isinstance(error, DeliveryError):
            _log.warning("outbox_attempt_failed", **details)
            return Failure(job, text, max(delay, error.retry_after), error.progress)
        if isinstance(error, _BUGS) and not is_unavailable(error):
            _log.error("outbox_handler_bug", **details, exc_info=error)
        else:
            _log.warning("outbox_attempt_failed", **details)
        return Failure(job, text, delay)

    async def park(self, jobs: Sequence[Job], reason: str) -> None:
        """Park jobs without trying them: their attempts kept killing the worker."""
        await self._fail([(job, PermanentError(reason)) for job in jobs])

    async def release(self, jobs: Sequence[Job]) -> None:
        """Give the leases of jobs back that were not tried."""
        await self._until_marked(lambda transaction: queue.release(transaction.connection, jobs), jobs)

    async def _until_marked(
        self, mark: Callable[[Transaction], Awaitable[None]], jobs: Sequence[Job]
    ) -> None:
        """Run `mark` in a transaction, again while the database is unavailable.

        A delivered job must not be delivered again for want of its mark, so this is retried until the lease ends; then
        the job belongs to the process that claims it next.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._lease.total_seconds()
        attempt = 0
        while True:
            try:
                async with self._transactions.begin() as transaction:
                    await mark(transaction)
            except Exception as exc:
                attempt += 1
                delay = self._backoff.delay(attempt).total_seconds()
                if not is_unavailable(exc):
                    raise
                if loop.time() + delay >= give_up:
                    _log.warning("outbox_mark_given_up", topic=self.topic.name, jobs=len(jobs))
                    return
                await asyncio.sleep(delay)
            else:
                return


def _failpoints(name: str, jobs: Sequence[Job]) -> None:
    """Pass the failpoint of each topic among these jobs."""
    for topic in {job.topic for job in jobs}:
        failpoint(name, topic)


def _describe(error: Exception) -> str:
    """One line for the job's row and the log: no statement, no parameters, no password."""
    if isinstance(error, DBAPIError):
        return f"database error {sqlstate(error)}: {type(error.orig).__name__}"
    return redact_url_passwords(str(error)) or type(error).__name__
