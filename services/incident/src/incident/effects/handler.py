"""The common part of all side effects' handlers: the key of the resolution, and the entries on its timeline."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from incident.effects import repository
from incident.lifecycle.effect_jobs import EffectPayload
from incident.model import Effect, ResolutionType
from servicekit.outbox.handler import Handler
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction


class EffectHandler(Handler, ABC):
    """Runs one effect and writes on the timeline how it ended."""

    effect: Effect

    async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Write the effect, and EFFECT_DONE on the timelines, in one transaction."""
        resolutions = [EffectPayload.from_json(job.payload) for job in jobs]
        keys = [each.key for each in resolutions]
        await self.write(transaction, resolutions)
        await repository.insert_done_events(transaction.connection, self.effect, keys)

    async def skipped(self, transaction: Transaction, jobs: Sequence[Job], reason: str) -> None:
        """Write EFFECT_SKIPPED and the reason on the timelines."""
        keys = [EffectPayload.from_json(job.payload).key for job in jobs]
        await repository.insert_skipped_events(transaction.connection, self.effect, keys, reason=reason)

    async def parked(self, transaction: Transaction, job: Job, reason: str) -> None:
        """Write EFFECT_PARKED and the reason on the timeline."""
        key = EffectPayload.from_json(job.payload).key
        await repository.insert_parked_event(
            transaction.connection, self.effect, key, attempts=job.attempts, reason=reason
        )

    @abstractmethod
    async def write(self, transaction: Transaction, resolutions: Sequence[EffectPayload]) -> None:
        """Write the effect of these resolutions into the database."""


def disabled_type(job: Job, types: frozenset[ResolutionType], *, variable: str) -> str | None:
    """Return the reason to skip a job when `types`, the resolution types that the setting `variable` disables, has its own."""
    resolution_type = EffectPayload.from_json(job.payload).resolution_type
    return f"{variable} leaves out {resolution_type}" if resolution_type in types else None
