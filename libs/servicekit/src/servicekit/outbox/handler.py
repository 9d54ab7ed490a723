"""The interface of a topic: its handler, and how its jobs are run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction


class PermanentError(Exception):
    """The job cannot succeed as it is: it is PARKED (dead-lettered) for an operator, not tried again.

    `progress` is kept in the job's payload: what need not be done again once it is re-queued.
    """

    def __init__(self, message: str, *, progress: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.progress = progress or {}


class DeliveryError(Exception):
    """A try failed and may succeed later, not before `retry_after`; the usual backoff holds besides.

    `progress` is kept in the job's payload: what the next try need not do again.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: timedelta = timedelta(0),
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.progress = progress or {}


class UnreachableError(Exception):
    """The other system could not be reached, or did not answer in time: it has not said anything about this job."""


class Handler:
    """Runs a topic's jobs. A subclass overrides what it needs; the base does nothing and succeeds."""

    def skip_reason(self, job: Job) -> str | None:
        """Return why `job` is not wanted (it ends SKIPPED, nothing runs), or None to go on."""
        return None

    async def skipped(self, transaction: Transaction, jobs: Sequence[Job], reason: str) -> None:
        """Write the consequences of skipping `jobs`, in the transaction that marks them SKIPPED."""

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        """Deliver jobs to an external system, each at least once, and return in order None or the error of each.

        A PermanentError parks its job; any other error is tried again after a backoff. An exception raised here
        is the error of all of them, a timeout included.
        """
        return [None] * len(jobs)

    async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Write the consequences of delivered jobs, in the transaction that marks them DONE: exactly once.

        An exception rolls back both. Jobs that came together are then tried topic by topic, and those of a topic that fails
        again one by one: a job that cannot succeed fails alone.
        """

    async def parked(self, transaction: Transaction, job: Job, reason: str) -> None:
        """Write the consequences of parking `job`, in the transaction that parks it."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and how its jobs are run."""

    name: str
    handler: Handler
    # Further topics of this handler: their jobs come in the same batches, and so share its transactions.
    joined: tuple[str, ...] = ()
    # Longest time one `deliver` may take; must be shorter than the worker's lease.
    timeout: timedelta = timedelta(seconds=10)
    # Jobs handed to `deliver` and `complete` together, of each of the topics.
    max_batch: int = 100
    # Batches in flight at a time.
    concurrency: int = 1
    # A delivery is one request to another system, which cannot kill this process: such a job is never a suspect.
    only_requests: bool = False
    # All deliveries go to one other system: when it can be reached again, those that failed meanwhile are due at once.
    one_target: bool = False
    # A batch waits until no more jobs have come for this long: fewer, larger transactions for jobs without a waiting caller.
    linger: timedelta = timedelta(0)
    # Nothing enqueues jobs of it, such as an effect that is disabled: what is there is claimed by the poll, not at each wake-up.
    only_polled: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The topic, and those that are joined to it."""
        return (self.name, *self.joined)
