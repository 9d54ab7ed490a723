"""The common part of all side effects' handlers: the entries on the timelines of how each effect ended."""

from collections.abc import Sequence

from incident.effects import repository
from incident.lifecycle.effect_jobs import EffectPayload
from incident.model import Effect, ResolutionKey, ResolutionType
from servicekit.outbox.handler import Handler
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction

EFFECT_OF_TOPIC = {effect.topic: effect for effect in Effect}


class EffectHandler(Handler):
    """Writes on the timelines how effects ended; a batch may have several effects of one resolution."""

    async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Write EFFECT_DONE."""
        await repository.insert_done_events(transaction.connection, ended(jobs))

    async def skipped(self, transaction: Transaction, jobs: Sequence[Job], reason: str) -> None:
        """Write EFFECT_SKIPPED and the reason."""
        await repository.insert_skipped_events(transaction.connection, ended(jobs), reason=reason)

    async def parked(self, transaction: Transaction, job: Job, reason: str) -> None:
        """Write EFFECT_PARKED and the reason."""
        ((effect, key),) = ended([job])
        await repository.insert_parked_event(
            transaction.connection, effect, key, attempts=job.attempts, reason=reason
        )


def ended(jobs: Sequence[Job]) -> Sequence[tuple[Effect, ResolutionKey]]:
    """Return the effect and the resolution of each job."""
    return [(EFFECT_OF_TOPIC[job.topic], EffectPayload.from_json(job.payload).key) for job in jobs]


def disabled_type(job: Job, types: frozenset[ResolutionType], *, variable: str) -> str | None:
    """Return the reason to skip a job when `types`, the resolution types that the setting `variable` disables, has its own."""
    resolution_type = EffectPayload.from_json(job.payload).resolution_type
    return f"{variable} leaves out {resolution_type}" if resolution_type in types else None
