"""What the outbox does for this service: the side effects of a resolution.

The effects here are kept in our own database, so each is written in the transaction that marks its job done: exactly
once, whatever dies in between. Those on other systems are in outside.py.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from incident.effects import repository as effects
from incident.effects.external import OutsideSystems, outside_topics
from incident.effects.handler import EffectHandler, resolution_key, skipped_type, time_to_resolve
from incident.effects.postmortem import PostmortemTemplate, PostmortemTemplateError
from incident.effects.repository import Disposition
from incident.effects.settings import EffectSettings
from incident.knowledge import repository as knowledge
from incident.model import Effect, ResolutionType
from incident.stats.repository import count_resolutions
from servicekit.outbox.handler import PermanentError, Topic
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction
from servicekit.process.settings import SettingsError

# Nobody waits for these effects: those of resolutions that come soon after one another share a transaction.
_LINGER = timedelta(milliseconds=50)


class PostmortemHandler(EffectHandler):
    """Writes the postmortem of each resolution."""

    effect = Effect.POSTMORTEM

    def __init__(self, template: PostmortemTemplate, *, skip: frozenset[ResolutionType]) -> None:
        self._template = template
        self._skip = skip

    def skip_reason(self, job: Job) -> str | None:
        """Not written for this type of resolution."""
        return skipped_type(job, self._skip, variable="INCIDENT_POSTMORTEM_SKIP")

    async def write(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Write the Markdown of every resolution in one statement."""
        times = {resolution_key(job): time_to_resolve(job) for job in jobs}
        resolutions = await effects.get_resolutions(transaction.connection, list(times))
        try:
            written = [
                (resolution, self._template.render(resolution, time_to_resolve=times[resolution.key]))
                for resolution in resolutions
            ]
        except PostmortemTemplateError as exc:
            # It will fail on this incident again, until somebody mends the template.
            raise PermanentError(f"INCIDENT_POSTMORTEM_TEMPLATE: {exc}") from exc
        await effects.insert_postmortems(transaction.connection, written)


class KnowledgeHandler(EffectHandler):
    """Keeps what each resolution taught."""

    effect = Effect.KNOWLEDGE

    async def write(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Merge what every resolution taught into what is known."""
        lessons = await knowledge.get_lessons(
            transaction.connection, {resolution_key(job): job.payload["resolution_seconds"] for job in jobs}
        )
        await knowledge.learn(transaction.connection, lessons)


class DispositionHandler(EffectHandler):
    """Records how each resolved incident ended, and counts it."""

    effect = Effect.DISPOSITION

    async def write(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Write the rows, and raise the counters that the figures are read from."""
        dispositions = [
            Disposition(
                resolution_key(job),
                ResolutionType(job.payload["resolution_type"]),
                job.payload["resolution_seconds"],
            )
            for job in jobs
        ]
        await effects.insert_dispositions(transaction.connection, dispositions)
        for (name, label), amount in count_resolutions(dispositions).items():
            transaction.count(name, label, amount)


def load_template(settings: EffectSettings) -> PostmortemTemplate:
    """Return the template that postmortems are written with. Raises SettingsError."""
    try:
        return PostmortemTemplate(settings.postmortem_template)
    except PostmortemTemplateError as exc:
        raise SettingsError(f"INCIDENT_POSTMORTEM_TEMPLATE: {exc}") from None


def topics(
    engine: AsyncEngine,
    settings: EffectSettings,
    template: PostmortemTemplate,
    outside: OutsideSystems,
) -> Mapping[Effect, Topic]:
    """Return the topic of each effect that this version runs."""
    handlers: Sequence[EffectHandler] = [
        PostmortemHandler(template, skip=settings.postmortem_skip),
        DispositionHandler(),
        KnowledgeHandler(),
    ]
    return {
        **{handler.effect: Topic(handler.effect.topic, handler, linger=_LINGER) for handler in handlers},
        **outside_topics(engine, settings, outside),
    }
