"""The use cases on side effects and postmortems: list, re-queue, read."""

from collections.abc import Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.counters import SIDE_EFFECTS_DISMISSED
from incident.effects import jobs, repository
from incident.effects.errors import (
    NeverResolvedError,
    PostmortemNotWrittenError,
    SideEffectEndedError,
    SideEffectNotFoundError,
    SideEffectNotParkedError,
)
from incident.effects.model import Postmortem, SideEffect, SideEffectPage, SideEffectState
from incident.errors import IncidentNotFoundError
from incident.lifecycle import repository as incidents
from incident.lifecycle.effect_jobs import latest_resolutions
from incident.model import Effect, ResolutionKey
from servicekit.outbox import dead_letters
from servicekit.outbox.dead_letters import JobEndedError, JobNotParkedError
from servicekit.outbox.jobs import JobState
from servicekit.outbox.transaction import Transactions

_log = structlog.get_logger()


class SideEffectUseCases:
    """The use cases on side effects and postmortems over one database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def list(
        self,
        *,
        incident_id: str,
        states: Sequence[SideEffectState],
        effects: Sequence[Effect],
        before: int | None,
        page_size: int,
    ) -> SideEffectPage:
        """Return a page of side effects, those older than the sequence number `before` when given.

        An empty criterion matches all. Raises IncidentNotFoundError when `incident_id` is given and unknown.
        """
        async with self._transactions.statement() as connection:
            resolutions = None
            if incident_id:
                incident = await incidents.get(connection, incident_id)
                if incident is None:
                    raise IncidentNotFoundError(incident_id)
                resolutions = latest_resolutions(incident_id, incident.resolution_number)
            found = await jobs.list_side_effects(
                connection,
                resolutions=resolutions,
                states=states,
                effects=effects,
                before=before,
                limit=page_size + 1,
            )
        page = found[:page_size]
        return SideEffectPage(page, page[-1].sequence if len(found) > page_size else None)

    async def retry(
        self, incident_id: str, effect: Effect, resolution_number: int, *, actor: str
    ) -> SideEffect:
        """Re-queue a PARKED (dead-lettered) side effect, due now. Idempotent: a PENDING one is returned as it is.

        `resolution_number` 0 means the latest. Raises IncidentNotFoundError, SideEffectNotFoundError,
        SideEffectEndedError.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            number = await _existing_resolution(connection, incident_id, resolution_number)
            job = await jobs.get_for_update(connection, effect, ResolutionKey(incident_id, number))
            if job is None:
                raise SideEffectNotFoundError(incident_id)
            try:
                requeued = await dead_letters.requeue(connection, job, actor=actor)
            except JobEndedError as exc:
                raise SideEffectEndedError(
                    incident_id, current=SideEffectState(exc.state), allowed=(SideEffectState.PARKED,)
                ) from exc
        self._transactions.outbox.wake()
        if job.state is JobState.PARKED:
            _log.info("side_effects_requeued", actor=actor, side_effects=1)
        return jobs.to_side_effect(requeued)

    async def retry_parked(
        self, effects: Sequence[Effect], *, limit: int, actor: str
    ) -> Sequence[SideEffect]:
        """Re-queue the longest PARKED side effects of these kinds (none: of every kind), at most `limit`, due now."""
        async with self._transactions.begin() as transaction:
            requeued = await jobs.requeue_parked(transaction.connection, effects, actor=actor, limit=limit)
        if requeued:
            self._transactions.outbox.wake()
            _log.info("side_effects_requeued", actor=actor, side_effects=len(requeued))
        return requeued

    async def dismiss(
        self, incident_id: str, effect: Effect, resolution_number: int, *, actor: str, reason: str
    ) -> SideEffect:
        """Give up on a PARKED (dead-lettered) side effect for good. Idempotent: a DISMISSED one is returned as it is.

        `resolution_number` 0 means the latest; with another one the incident need not exist any more. Raises
        IncidentNotFoundError, SideEffectNotFoundError, SideEffectNotParkedError.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            number = resolution_number or await _existing_resolution(connection, incident_id, 0)
            key = ResolutionKey(incident_id, number)
            job = await jobs.get_for_update(connection, effect, key)
            if job is None:
                raise SideEffectNotFoundError(incident_id)
            if job.state is JobState.DISMISSED:
                return jobs.to_side_effect(job)
            try:
                dismissed = await dead_letters.dismiss(connection, job, actor=actor, reason=reason)
            except JobNotParkedError as exc:
                raise SideEffectNotParkedError(
                    incident_id, current=SideEffectState(exc.state), allowed=(SideEffectState.PARKED,)
                ) from exc
            transaction.count(SIDE_EFFECTS_DISMISSED, effect)
            await repository.insert_dismissed_event(connection, effect, key, actor=actor, reason=reason)
        _log.info(
            "side_effect_dismissed",
            actor=actor,
            incident_id=incident_id,
            effect=effect,
            resolution_number=number,
        )
        return jobs.to_side_effect(dismissed)

    async def get_postmortem(self, incident_id: str, resolution_number: int) -> Postmortem:
        """Return the postmortem of a RESOLVED transition; `resolution_number` 0 means the latest.

        Raises IncidentNotFoundError, NeverResolvedError, PostmortemNotWrittenError.
        """
        async with self._transactions.statement() as connection:
            incident = await incidents.get(connection, incident_id)
            if incident is None:
                raise IncidentNotFoundError(incident_id)
            if incident.resolution_number == 0:
                raise NeverResolvedError(incident_id)
            number = resolution_number or incident.resolution_number
            postmortem = await repository.get_postmortem(connection, incident_id, number)
        if postmortem is None:
            raise PostmortemNotWrittenError(incident_id)
        return postmortem


async def _existing_resolution(connection: AsyncConnection, incident_id: str, resolution_number: int) -> int:
    incident = await incidents.get(connection, incident_id)
    if incident is None:
        raise IncidentNotFoundError(incident_id)
    return resolution_number or incident.resolution_number
