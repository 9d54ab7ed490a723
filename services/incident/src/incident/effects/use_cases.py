"""The reads of side effects and postmortems."""

from collections.abc import Sequence

from incident.effects import jobs, repository
from incident.effects.errors import NeverResolvedError, PostmortemNotWrittenError
from incident.effects.model import Postmortem, SideEffectPage, SideEffectState
from incident.errors import IncidentNotFoundError
from incident.lifecycle import repository as incidents
from incident.lifecycle.effect_jobs import latest_resolutions
from incident.model import Effect
from servicekit.outbox.transaction import Transactions


class SideEffectUseCases:
    """The reads of side effects and postmortems over one database."""

    def __init__(self, transactions: Transactions, *, reads: Transactions) -> None:
        """`reads` serves the list."""
        self._transactions = transactions
        self._reads = reads

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
        # Of one snapshot: what changes meanwhile does not move where the page ends.
        async with self._reads.snapshot() as connection:
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
            if len(found) > page_size:
                return SideEffectPage(page, page[-1].sequence)
            if resolutions is not None:
                return SideEffectPage(page, None)
            return SideEffectPage(page, await jobs.examined_to(connection, states=states, before=before))

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
