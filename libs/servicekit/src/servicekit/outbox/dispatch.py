"""How use cases reach the worker: jobs are enqueued in a transaction and, after its commit, tried at once."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from servicekit.outbox.queue import Job


class Dispatcher(Protocol):
    """Tries jobs as soon as they are committed."""

    @property
    def lease(self) -> timedelta:
        """The lease to enqueue with."""

    def has_room(self, topic: str, jobs: int) -> bool:
        """Tell whether so many jobs of a topic can be taken now. If not, enqueue them without a lease."""

    def offer(self, jobs: Sequence[Job]) -> None:
        """Try jobs that this process enqueued under a lease and committed."""

    def wake(self) -> None:
        """Look for due jobs now."""


class LateDispatcher:
    """Passes on to a worker that is made later: the worker's handlers use the use cases that need a dispatcher."""

    def __init__(self, *, lease: timedelta) -> None:
        self.lease = lease
        self.worker: Dispatcher | None = None

    def has_room(self, topic: str, jobs: int) -> bool:
        """Ask the worker; without one yet, jobs are left to whoever claims them."""
        return self.worker is not None and self.worker.has_room(topic, jobs)

    def offer(self, jobs: Sequence[Job]) -> None:
        """Try the jobs; without a worker yet, they are claimed when their lease ends."""
        if self.worker is not None:
            self.worker.offer(jobs)

    def wake(self) -> None:
        """Look for due jobs now; a worker that starts later looks by itself."""
        if self.worker is not None:
            self.worker.wake()
