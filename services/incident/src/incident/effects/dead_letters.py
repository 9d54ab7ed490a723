"""Side effects re-queued or dismissed by an operator."""

from collections.abc import Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.counters import OTHER_EFFECT, SIDE_EFFECTS_DISMISSED
from incident.effects import jobs, repository
from incident.effects.errors import (
    DeliveryIdNotFoundError,
    SideEffectEndedError,
    SideEffectNotFoundError,
    SideEffectNotParkedError,
)
from incident.effects.model import (
    EffectOfResolution,
    SideEffect,
    SideEffectName,
    SideEffectState,
)
from incident.errors import IncidentNotFoundError
from incident.lifecycle import repository as incidents
from incident.model import Effect, Incident, ResolutionKey
from servicekit.audit.model import Call
from servicekit.outbox import dead_letters
from servicekit.outbox.dead_letters import JobEndedError, JobNotParkedError
from servicekit.outbox.jobs import JobRecord, JobState
from servicekit.outbox.transaction import Transactions

_log = structlog.get_logger()


class DeadLetterUseCases:
    """Side effects that are re-queued or dismissed, over one database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def retry(self, name: SideEffectName, *, call: Call) -> SideEffect:
        """Re-queue a PARKED (dead-lettered) side effect, due now. Idempotent: a PENDING one is returned as it is.

        Raises IncidentNotFoundError, SideEffectNotFoundError, DeliveryIdNotFoundError, SideEffectEndedError.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            if isinstance(name, EffectOfResolution):
                await _get_incident(connection, name.incident_id)
            job = await _lock(connection, name)
            try:
                requeued = await dead_letters.requeue(connection, job, actor=call.actor)
            except JobEndedError as exc:
                raise SideEffectEndedError(
                    _subject(name), current=SideEffectState(exc.state), allowed=(SideEffectState.PARKED,)
                ) from exc
            if job.state is JobState.PARKED:
                transaction.record(call, *_targets(requeued))
        self._transactions.outbox.wake()
        if job.state is JobState.PARKED:
            _log.info("side_effects_requeued", actor=call.actor, side_effects=1)
        return jobs.to_side_effect(requeued)

    async def retry_parked(
        self, effects: Sequence[Effect], *, limit: int, call: Call
    ) -> Sequence[SideEffect]:
        """Re-queue the longest PARKED side effects of these kinds (none: of every kind), at most `limit`, due now."""
        async with self._transactions.begin() as transaction:
            requeued = await jobs.requeue_parked(
                transaction.connection, effects, actor=call.actor, limit=limit
            )
            if requeued:
                transaction.record(call, *(each.delivery_id for each in requeued))
        if requeued:
            self._transactions.outbox.wake()
            _log.info("side_effects_requeued", actor=call.actor, side_effects=len(requeued))
        return requeued

    async def dismiss(self, name: SideEffectName, *, call: Call, reason: str) -> SideEffect:
        """Give up on a PARKED (dead-lettered) side effect for good. Idempotent: a DISMISSED one is returned as it is.

        The incident need not exist any more, unless its latest resolution is meant. Raises IncidentNotFoundError,
        SideEffectNotFoundError, DeliveryIdNotFoundError, SideEffectNotParkedError.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            job = await _lock(connection, name)
            if job.state is JobState.DISMISSED:
                return jobs.to_side_effect(job)
            try:
                job = await dead_letters.dismiss(connection, job, actor=call.actor, reason=reason)
            except JobNotParkedError as exc:
                raise SideEffectNotParkedError(
                    _subject(name), current=SideEffectState(exc.state), allowed=(SideEffectState.PARKED,)
                ) from exc
            dismissed = jobs.to_side_effect(job)
            effect = dismissed.effect
            transaction.record(call, *_targets(job))
            transaction.count(SIDE_EFFECTS_DISMISSED, effect or OTHER_EFFECT)
            if effect is not None and dismissed.incident_id:
                key = ResolutionKey(dismissed.incident_id, dismissed.resolution_number)
                await repository.insert_dismissed_event(
                    connection, effect, key, actor=call.actor, reason=reason
                )
        _log.info(
            "side_effect_dismissed",
            actor=call.actor,
            incident_id=dismissed.incident_id,
            effect=effect,
            resolution_number=dismissed.resolution_number,
            delivery_id=dismissed.delivery_id,
        )
        return dismissed


def _targets(job: JobRecord) -> Sequence[str]:
    """Return the ids for an audit record; a job of another version may have no incident."""
    effect = jobs.to_side_effect(job)
    return [name for name in (effect.incident_id, effect.delivery_id) if name]


async def _get_incident(connection: AsyncConnection, incident_id: str) -> Incident:
    incident = await incidents.get(connection, incident_id)
    if incident is None:
        raise IncidentNotFoundError(incident_id)
    return incident


async def _lock(connection: AsyncConnection, name: SideEffectName) -> JobRecord:
    if not isinstance(name, EffectOfResolution):
        job = await jobs.get_by_delivery_id_for_update(connection, name)
        if job is None:
            raise DeliveryIdNotFoundError(name)
        return job
    number = name.resolution_number
    if not number:
        number = (await _get_incident(connection, name.incident_id)).resolution_number
    job = await jobs.get_for_update(connection, name.effect, ResolutionKey(name.incident_id, number))
    if job is None:
        raise SideEffectNotFoundError(name.incident_id)
    return job


def _subject(name: SideEffectName) -> str:
    return name.incident_id if isinstance(name, EffectOfResolution) else name
