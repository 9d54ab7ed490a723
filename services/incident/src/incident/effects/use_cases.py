"""The use cases on side effects and postmortems: list, re-queue, read."""

from collections.abc import Sequence

from incident.effects import jobs, repository
from incident.effects.errors import (
    NeverResolvedError,
    PostmortemNotWrittenError,
    SideEffectEndedError,
    SideEffectNotFoundError,
)
from incident.effects.model import Postmortem, SideEffect, SideEffectPage, SideEffectState
from incident.errors import IncidentNotFoundError
from incident.lifecycle import repository as incidents
from incident.model import Effect, ResolutionKey
from servicekit.outbox.jobs import JobEndedError, requeue
from servicekit.outbox.transaction import Transactions


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
                numbers = range(1, incident.resolution_number + 1)
                resolutions = [ResolutionKey(incident_id, number) for number in numbers]
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

    async def retry(self, incident_id: str, effect: Effect, resolution_number: int) -> SideEffect:
        """Re-queue a PARKED (dead-lettered) side effect, due now. Idempotent: a PENDING one is returned as it is.

        `resolution_number` 0 means the latest. Raises IncidentNotFoundError, SideEffectNotFoundError,
        SideEffectEndedError.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            incident = await incidents.get(connection, incident_id)
            if incident is None:
                raise IncidentNotFoundError(incident_id)
            key = ResolutionKey(incident_id, resolution_number or incident.resolution_number)
            job = await jobs.get_for_update(connection, effect, key)
            if job is None:
                raise SideEffectNotFoundError(incident_id)
            try:
                requeued = await requeue(connection, job)
            except JobEndedError as exc:
                raise SideEffectEndedError(
                    incident_id, current=SideEffectState(exc.state), allowed=(SideEffectState.PARKED,)
                ) from exc
        self._transactions.outbox.wake()
        return jobs.to_side_effect(requeued)

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
