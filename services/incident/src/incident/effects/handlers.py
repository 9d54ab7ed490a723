"""The handlers of the effects in the service's own database, and the topics of all effects.

Each is written in the transaction that marks its job DONE, so it takes effect exactly once. Effects on external systems
are in external.py.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from incident.effects import repository
from incident.effects.dispositions import record_dispositions
from incident.effects.external import ExternalSystems, external_topics
from incident.effects.handler import EffectHandler, disabled_type
from incident.effects.postmortem import PostmortemTemplate, PostmortemTemplateError
from incident.effects.settings import EffectSettings
from incident.knowledge import repository as knowledge
from incident.lifecycle.effect_jobs import EffectPayload
from incident.model import Effect, ResolutionType
from servicekit.outbox.handler import PermanentError, Topic
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.process.settings import SettingsError

# No caller waits for these effects: those of resolutions in quick succession share a transaction.
_LINGER = timedelta(milliseconds=50)


class PostmortemHandler(EffectHandler):
    """Writes the postmortem of each resolution."""

    effect = Effect.POSTMORTEM

    def __init__(self, template: PostmortemTemplate, *, skip: frozenset[ResolutionType]) -> None:
        self._template = template
        self._skip = skip

    def skip_reason(self, job: Job) -> str | None:
        """Postmortems of this resolution type are disabled."""
        return disabled_type(job, self._skip, variable="INCIDENT_POSTMORTEM_SKIP")

    async def write(self, transaction: Transaction, resolutions: Sequence[EffectPayload]) -> None:
        """Write the Markdown of every resolution in one statement."""
        times = {resolution.key: resolution.time_to_resolve for resolution in resolutions}
        snapshots = await repository.get_snapshots(transaction.connection, list(times))
        try:
            written = [
                (snapshot, self._template.render(snapshot, time_to_resolve=times[snapshot.key]))
                for snapshot in snapshots
            ]
        except PostmortemTemplateError as exc:
            # It fails on this incident every time, until an operator corrects the template.
            raise PermanentError(f"INCIDENT_POSTMORTEM_TEMPLATE: {exc}") from exc
        await repository.insert_postmortems(transaction.connection, written)


class KnowledgeHandler(EffectHandler):
    """Merges the lesson of each resolution into the knowledge base."""

    effect = Effect.KNOWLEDGE

    async def write(self, transaction: Transaction, resolutions: Sequence[EffectPayload]) -> None:
        """Merge the lessons of all resolutions."""
        lessons = await knowledge.get_lessons(
            transaction.connection,
            {resolution.key: resolution.resolution_seconds for resolution in resolutions},
        )
        await knowledge.learn(transaction.connection, lessons)


class DispositionHandler(EffectHandler):
    """Stores and counts how each incident was resolved."""

    effect = Effect.DISPOSITION

    async def write(self, transaction: Transaction, resolutions: Sequence[EffectPayload]) -> None:
        """Store and count the dispositions."""
        await record_dispositions(transaction, resolutions)


def load_template(settings: EffectSettings) -> PostmortemTemplate:
    """Return the template of postmortems. Raises SettingsError."""
    try:
        return PostmortemTemplate(settings.postmortem_template)
    except PostmortemTemplateError as exc:
        raise SettingsError(f"INCIDENT_POSTMORTEM_TEMPLATE: {exc}") from None


def topics(
    transactions: Transactions,
    settings: EffectSettings,
    template: PostmortemTemplate,
    external: ExternalSystems,
) -> Mapping[Effect, Topic]:
    """Return the topic of each effect that this version runs."""
    handlers: Sequence[EffectHandler] = [
        PostmortemHandler(template, skip=settings.postmortem_skip),
        DispositionHandler(),
        KnowledgeHandler(),
    ]
    return {
        **{handler.effect: Topic(handler.effect.topic, handler, linger=_LINGER) for handler in handlers},
        **external_topics(transactions, settings, external),
    }
