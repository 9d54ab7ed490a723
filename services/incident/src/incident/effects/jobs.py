"""Side effects as an operator sees them: the outbox's jobs of the effects' topics."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from incident.effects.model import OpenSideEffects, SideEffect, SideEffectState
from incident.lifecycle.effect_jobs import EffectPayload, dedup_key
from incident.model import Effect, ResolutionKey
from servicekit.outbox import jobs
from servicekit.outbox.jobs import JobRecord

_EFFECT_OF = {effect.topic: effect for effect in Effect}


def to_side_effect(job: JobRecord) -> SideEffect:
    """Return the side effect that a job runs."""
    resolution = EffectPayload.from_json(job.payload)
    return SideEffect(
        incident_id=resolution.incident_id,
        effect=_EFFECT_OF[job.topic],
        resolution_number=resolution.resolution_number,
        state=SideEffectState(job.state),
        attempts=job.attempts,
        last_error=job.last_error,
        create_time=job.create_time,
        next_attempt_time=job.next_attempt_time,
        done_time=job.done_time,
        sequence=job.job_id,
    )


async def list_side_effects(
    connection: AsyncConnection,
    *,
    resolutions: Sequence[ResolutionKey] | None,
    states: Sequence[SideEffectState],
    effects: Sequence[Effect],
    before: int | None,
    limit: int,
) -> Sequence[SideEffect]:
    """Return at most `limit` side effects, newest first, those older than the sequence number `before` when given.

    `resolutions` None, no state and no effect are no criteria.
    """
    found = await jobs.list_jobs(
        connection,
        [effect.topic for effect in effects or tuple(Effect)],
        states=states,
        dedup_keys=None if resolutions is None else [dedup_key(key) for key in resolutions],
        before=before,
        limit=limit,
    )
    return [to_side_effect(job) for job in found]


async def list_open(connection: AsyncConnection, *, limit: int) -> Sequence[SideEffect]:
    """Return at most `limit` side effects that are PARKED, then PENDING ones, oldest first."""
    found = await jobs.list_open(connection, [effect.topic for effect in Effect], limit=limit)
    return [to_side_effect(job) for job in found]


async def get_for_update(connection: AsyncConnection, effect: Effect, key: ResolutionKey) -> JobRecord | None:
    """Return the job of a side effect, locked until the transaction ends; None when there is none."""
    return await jobs.get_by_key_for_update(connection, effect.topic, dedup_key(key))


async def count_open(connection: AsyncConnection) -> OpenSideEffects:
    """Count the side effects that are PENDING or PARKED."""
    counted = await jobs.count_open(connection)
    return OpenSideEffects(
        # Another version of the service may have topics that this one does not know.
        counts={
            (_EFFECT_OF[each.topic], SideEffectState(each.state)): each.count
            for each in counted
            if each.topic in _EFFECT_OF
        },
        oldest_pending_seconds=max(
            (each.oldest_seconds for each in counted if each.state == SideEffectState.PENDING), default=0.0
        ),
    )
