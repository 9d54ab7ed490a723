"""What all side effects have in common: how a job names its resolution, and their entries on the timeline."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta

from incident.effects import repository as effects
from incident.model import Effect, ResolutionKey, ResolutionType
from servicekit.outbox.handler import Handler
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction


class EffectHandler(Handler, ABC):
    """An effect, and its entries on the timeline."""

    effect: Effect

    async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Write what the effect leaves, and that it took effect."""
        await self.write(transaction, jobs)
        await effects.insert_done_events(
            transaction.connection, self.effect, [resolution_key(job) for job in jobs]
        )

    async def skipped(self, transaction: Transaction, jobs: Sequence[Job], reason: str) -> None:
        """Say on the timeline that the effect was left out, and why."""
        await effects.insert_skipped_events(
            transaction.connection, self.effect, [resolution_key(job) for job in jobs], reason=reason
        )

    async def parked(self, transaction: Transaction, job: Job, reason: str) -> None:
        """Say on the timeline that the effect waits for an operator."""
        await effects.insert_parked_event(
            transaction.connection, self.effect, resolution_key(job), attempts=job.attempts, reason=reason
        )

    @abstractmethod
    async def write(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Write what the effect leaves in the database."""


def resolution_key(job: Job) -> ResolutionKey:
    """Return the RESOLVED transition whose consequence a job is."""
    return ResolutionKey(job.payload["incident_id"], job.payload["resolution_number"])


def time_to_resolve(job: Job) -> timedelta:
    """Return how long after it was opened, or opened again, the job's incident was resolved."""
    return timedelta(seconds=job.payload["resolution_seconds"])


def skipped_type(job: Job, types: frozenset[ResolutionType], *, variable: str) -> str | None:
    """Return why a job is not wanted when its resolution type is among those that a setting leaves out."""
    resolution_type = ResolutionType(job.payload["resolution_type"])
    return f"{variable} leaves out {resolution_type}" if resolution_type in types else None
