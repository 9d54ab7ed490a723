"""What the outbox does for this service: the side effects of a resolution.

Every effect here is kept in our own database, so it is written in the transaction that marks its job done: exactly
once, whatever dies in between.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from incident import effects, knowledge
from incident.effects import Disposition
from incident.model import Effect, ResolutionKey, ResolutionType
from incident.postmortem import write_postmortem
from incident.stats import count_resolutions
from servicekit.counters import raise_counters
from servicekit.outbox.handler import Handler, Topic
from servicekit.outbox.queue import Job


class EffectHandler(Handler):
    """An effect, and its entries on the timeline."""

    effect: Effect

    async def complete(self, connection: AsyncConnection, jobs: Sequence[Job]) -> None:
        """Write what the effect leaves, and that it took effect."""
        await self.write(connection, jobs)
        await effects.insert_done_events(connection, self.effect, [_key(job) for job in jobs])

    async def parked(self, connection: AsyncConnection, job: Job, reason: str) -> None:
        """Say on the timeline that the effect waits for an operator."""
        await effects.insert_parked_event(
            connection, self.effect, _key(job), attempts=job.attempts, reason=reason
        )

    async def write(self, connection: AsyncConnection, jobs: Sequence[Job]) -> None:
        """Write what the effect leaves in the database."""
        raise NotImplementedError


class PostmortemHandler(EffectHandler):
    """Writes the postmortem of each resolution."""

    effect = Effect.POSTMORTEM

    async def write(self, connection: AsyncConnection, jobs: Sequence[Job]) -> None:
        """Write the Markdown of every resolution in one statement."""
        resolutions = await effects.get_resolutions(connection, [_key(job) for job in jobs])
        await effects.insert_postmortems(
            connection, [(resolution, write_postmortem(resolution)) for resolution in resolutions]
        )


class KnowledgeHandler(EffectHandler):
    """Keeps what each resolution taught."""

    effect = Effect.KNOWLEDGE

    async def write(self, connection: AsyncConnection, jobs: Sequence[Job]) -> None:
        """Merge what every resolution taught into what is known."""
        lessons = await knowledge.get_lessons(
            connection, {_key(job): job.payload["resolution_seconds"] for job in jobs}
        )
        await knowledge.learn(connection, lessons)


class DispositionHandler(EffectHandler):
    """Records how each resolved incident ended, and counts it."""

    effect = Effect.DISPOSITION

    def __init__(self, counter_shard: int) -> None:
        self._counter_shard = counter_shard

    async def write(self, connection: AsyncConnection, jobs: Sequence[Job]) -> None:
        """Write the rows, and raise the counters that the figures are read from."""
        dispositions = [
            Disposition(
                _key(job), ResolutionType(job.payload["resolution_type"]), job.payload["resolution_seconds"]
            )
            for job in jobs
        ]
        await effects.insert_dispositions(connection, dispositions)
        await raise_counters(connection, Counter(count_resolutions(dispositions)), shard=self._counter_shard)


def topics(*, counter_shard: int) -> Mapping[Effect, Topic]:
    """Return the topic of each effect that this version runs."""
    handlers: Sequence[EffectHandler] = [
        PostmortemHandler(),
        DispositionHandler(counter_shard),
        KnowledgeHandler(),
    ]
    return {handler.effect: Topic(handler.effect.topic, handler) for handler in handlers}


def _key(job: Job) -> ResolutionKey:
    return ResolutionKey(job.payload["incident_id"], job.payload["resolution_number"])
