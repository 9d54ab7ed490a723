"""The way from a committed transaction to the worker of this process."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from servicekit.outbox.queue import Job

LEASE = timedelta(seconds=30)


class Worker(Protocol):
    """Runs jobs that this process holds leases on."""

    def has_room(self, topic: str, jobs: int) -> bool:
        """Return whether the worker can take `jobs` more jobs of a topic now."""

    def dispatch(self, jobs: Sequence[Job]) -> None:
        """Run leased jobs whose transaction has committed."""

    def wake(self) -> None:
        """Claim due jobs now instead of at the next poll."""


class Outbox:
    """Hands committed jobs to the worker, which attaches itself when it is made.

    The worker's handlers call use cases and the use cases enqueue jobs: this object comes first, and both get it.
    """

    def __init__(self, *, lease: timedelta = LEASE) -> None:
        """`lease` is how long a claimed job stays with one process; after a crash it waits this long for another."""
        self.lease = lease
        self._worker: Worker | None = None

    def attach(self, worker: Worker) -> None:
        """Dispatch to `worker` from now on."""
        self._worker = worker

    def lease_for(self, jobs: Mapping[str, int]) -> timedelta | None:
        """Return the lease to insert jobs with, given their number by topic; None when the worker has no room for them.

        Jobs inserted already leased to this process save the claim's round trip. Without a lease any process claims them.
        """
        if self._worker is None or self.topics_with_room(jobs) != jobs.keys():
            return None
        return self.lease

    def topics_with_room(self, jobs: Mapping[str, int]) -> frozenset[str]:
        """Return the topics that the worker has room for, given the number of jobs of each."""
        worker = self._worker
        if worker is None:
            return frozenset()
        return frozenset(topic for topic, count in jobs.items() if worker.has_room(topic, count))

    def dispatch(self, jobs: Sequence[Job]) -> None:
        """Run jobs that were inserted leased and are committed. Without a worker they are claimed when the lease ends."""
        if self._worker is not None and jobs:
            self._worker.dispatch(jobs)

    def wake(self) -> None:
        """Claim due jobs now. A worker that starts later claims at its start."""
        if self._worker is not None:
            self._worker.wake()
