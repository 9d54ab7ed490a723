"""Side effects as an operator sees them: the outbox's jobs of the effects' topics."""

import re
from collections import Counter
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from incident.effects.model import (
    DeliveryId,
    OpenSideEffects,
    SideEffect,
    SideEffectDismissal,
    SideEffectState,
)
from incident.lifecycle.effect_jobs import dedup_key, resolution_of
from incident.model import Effect, ResolutionKey
from servicekit.outbox import dead_letters, jobs, open_jobs
from servicekit.outbox.jobs import JobRecord

_EFFECT_OF = {effect.topic: effect for effect in Effect}
_OWN_DELIVERY_ID = re.compile(
    rf"(?P<incident_id>INC-[^/]+)/(?P<effect>{'|'.join(Effect).lower()})/(?P<number>[1-9][0-9]*)"
)


def to_side_effect(job: JobRecord) -> SideEffect:
    """Return the side effect that a job runs; of another version's job what this version can tell.

    The payload is not read: another version may have written it.
    """
    effect = _EFFECT_OF.get(job.topic)
    key = None if effect is None else resolution_of(job.dedup_key)
    return SideEffect(
        incident_id=job.incident_id or ("" if key is None else key.incident_id),
        effect=effect,
        resolution_number=0 if key is None else key.resolution_number,
        delivery_id=f"{job.topic}/{job.dedup_key}"
        if effect is None or key is None
        else effect.delivery_id(key),
        state=SideEffectState(job.state),
        attempts=job.attempts,
        last_error=job.last_error,
        create_time=job.create_time,
        next_attempt_time=job.next_attempt_time,
        done_time=job.done_time,
        requeued_by=job.requeued_by,
        dismissal=None
        if job.dismissal is None
        else SideEffectDismissal(job.dismissal.actor, job.dismissal.reason, job.dismissal.dismiss_time),
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

    `resolutions` None, no state and no effect are no criteria. Without resolutions and effects what is PARKED or
    DISMISSED of other versions is there as well.
    """
    topics = _topics(effects)
    keys = None
    if resolutions is not None:
        keys = [(topic, dedup_key(key)) for topic in topics for key in resolutions]
    found = await jobs.list_jobs(
        connection,
        topics,
        dead_letters=not effects and resolutions is None,
        states=states,
        keys=keys,
        before=before,
        limit=limit,
    )
    return [to_side_effect(job) for job in found]


async def examined_to(
    connection: AsyncConnection, *, states: Sequence[SideEffectState], before: int | None
) -> int | None:
    """Return down to where a list without resolutions has looked that found fewer than its limit; None: at all."""
    return await jobs.examined_to(connection, states=states, before=before)


async def list_open(connection: AsyncConnection, *, limit: int, max_read: int) -> Sequence[SideEffect]:
    """Return at most `limit` side effects that are PARKED, then PENDING ones, oldest first; other versions' as well.

    Of a state with more than `max_read`, these are the oldest of so many.
    """
    found = await open_jobs.list_open(connection, limit=limit, max_read=max_read)
    return [to_side_effect(job) for job in found]


async def get_for_update(connection: AsyncConnection, effect: Effect, key: ResolutionKey) -> JobRecord | None:
    """Return the job of a side effect, locked until the transaction ends; None when there is none."""
    return await dead_letters.get_by_key_for_update(connection, effect.topic, dedup_key(key))


async def get_by_delivery_id_for_update(
    connection: AsyncConnection, delivery_id: DeliveryId
) -> JobRecord | None:
    """Return the job with this delivery id, locked until the transaction ends; None when there is none."""
    if (named := _OWN_DELIVERY_ID.fullmatch(delivery_id)) is not None:
        topic, key = Effect(named["effect"].upper()).topic, f"{named['incident_id']}/{named['number']}"
    else:
        topic, _, key = delivery_id.partition("/")
    return await dead_letters.get_by_key_for_update(connection, topic, key)


async def requeue_parked(
    connection: AsyncConnection, effects: Sequence[Effect], *, actor: str, limit: int
) -> Sequence[SideEffect]:
    """Re-queue the longest PARKED side effects of these kinds (none: every job there is), at most `limit`."""
    topics = _topics(effects) if effects else None
    found = await dead_letters.requeue_parked(connection, topics, actor=actor, limit=limit)
    return [to_side_effect(job) for job in found]


async def count_open(connection: AsyncConnection, *, max_counted: int) -> OpenSideEffects:
    """Count the side effects that are PENDING or PARKED, of one kind in one state `max_counted` at most."""
    counted = await open_jobs.count_open(connection, max_counted=max_counted)
    counts: Counter[tuple[Effect | None, SideEffectState]] = Counter()
    for each in counted:
        # Of another version's topics there may be several.
        counts[_EFFECT_OF.get(each.topic), SideEffectState(each.state)] += each.count
    return OpenSideEffects(
        counts=counts,
        oldest_pending_seconds=max(
            (each.oldest_seconds for each in counted if each.state == SideEffectState.PENDING), default=0.0
        ),
    )


def _topics(effects: Sequence[Effect] = ()) -> Sequence[str]:
    return [effect.topic for effect in effects or tuple(Effect)]
