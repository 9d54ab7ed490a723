"""The effects in the service's own database: those of many resolutions are written in the transaction that marks their jobs.

So each takes effect exactly once. One statement reads the resolutions of a transaction, one writes all their effects, and one
merges what they taught; their jobs are retried, parked and skipped one by one.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from incident.effects.handler import EFFECT_OF_TOPIC, EffectHandler, disabled_type
from incident.effects.model import ResolutionSnapshot
from incident.effects.own_database import repository
from incident.effects.own_database.dispositions import count_resolutions
from incident.effects.own_database.postmortem import PostmortemTemplate, PostmortemTemplateError
from incident.effects.own_database.repository import WrittenEffects
from incident.effects.repository import get_snapshots
from incident.knowledge import repository as knowledge
from incident.knowledge.model import Lesson, symptom_key
from incident.lifecycle.effect_jobs import EffectPayload
from incident.model import Effect, ResolutionKey, ResolutionType
from servicekit.outbox.handler import PermanentError
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction

OWN_DATABASE_EFFECTS: Final = (Effect.POSTMORTEM, Effect.DISPOSITION, Effect.KNOWLEDGE)
# RPCs go on between so many resolutions: a batch is some tens of milliseconds of work.
_TOGETHER = 4


class OwnDatabaseHandler(EffectHandler):
    """Writes postmortems, dispositions and what was learnt."""

    def __init__(self, template: PostmortemTemplate, *, postmortem_skip: frozenset[ResolutionType]) -> None:
        self._template = template
        self._postmortem_skip = postmortem_skip

    def skip_reason(self, job: Job) -> str | None:
        """Postmortems of this resolution type are disabled."""
        if job.topic != Effect.POSTMORTEM.topic:
            return None
        return disabled_type(job, self._postmortem_skip, variable="INCIDENT_POSTMORTEM_SKIP")

    async def complete(self, transaction: Transaction, jobs: Sequence[Job]) -> None:
        """Write the effects, and EFFECT_DONE on the timelines."""
        payloads: dict[ResolutionKey, EffectPayload] = {}
        wanted: dict[ResolutionKey, list[Effect]] = {}
        for job in jobs:
            payload = EffectPayload.from_json(job.payload)
            payloads[payload.key] = payload
            wanted.setdefault(payload.key, []).append(EFFECT_OF_TOPIC[job.topic])
        with_timeline = [key for key, effects in wanted.items() if Effect.POSTMORTEM in effects]
        found = await get_snapshots(transaction.connection, list(payloads), with_timeline=with_timeline)
        # In the order of the transitions: of several lessons for one entry of knowledge the last gives it its resolution.
        snapshots = sorted(found.values(), key=lambda snapshot: snapshot.resolved.sequence)
        resolutions: list[WrittenEffects] = []
        for position, snapshot in enumerate(snapshots):
            if position % _TOGETHER == _TOGETHER - 1:
                await asyncio.sleep(0)
            effects, payload = wanted[snapshot.key], payloads[snapshot.key]
            markdown = self._postmortem(snapshot, payload) if Effect.POSTMORTEM in effects else None
            resolutions.append(WrittenEffects(snapshot, payload.resolution_seconds, effects, markdown))
        held = await repository.write(transaction.connection, resolutions)
        lessons = [
            lesson_of(each.snapshot, seconds=each.resolution_seconds, held=held[each.snapshot.key])
            for each in resolutions
            if Effect.KNOWLEDGE in each.effects and each.snapshot.key in held
        ]
        if lessons:
            await knowledge.learn(transaction.connection, lessons)
        disposed = [payloads[key] for key, effects in wanted.items() if Effect.DISPOSITION in effects]
        for (name, label), amount in count_resolutions(disposed).items():
            transaction.count(name, label, amount)

    def _postmortem(self, snapshot: ResolutionSnapshot, payload: EffectPayload) -> str:
        try:
            return self._template.render(snapshot, time_to_resolve=payload.time_to_resolve)
        except PostmortemTemplateError as exc:
            # It fails on this incident every time, until an operator corrects the template.
            raise PermanentError(f"INCIDENT_POSTMORTEM_TEMPLATE: {exc}") from exc


def lesson_of(snapshot: ResolutionSnapshot, *, seconds: float, held: bool) -> Lesson:
    """Return what a RESOLVED transition taught."""
    return Lesson(
        incident_id=snapshot.key.incident_id,
        resolution_number=snapshot.key.resolution_number,
        symptom_key=symptom_key(snapshot.title, snapshot.labels, snapshot.fingerprint),
        symptoms="\n".join(filter(None, [snapshot.title, snapshot.description])),
        resolution=snapshot.resolved.summary,
        resolution_type=snapshot.resolution_type,
        action=snapshot.resolved.attributes.get("action", ""),
        held=held,
        seconds=seconds,
    )
