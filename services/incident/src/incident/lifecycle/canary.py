"""Removes a canary incident once it is RESOLVED: it leaves the stats as if it had never been."""

from incident.errors import IncidentNotFoundError, NotCanaryError, TransitionNotAllowedError
from incident.lifecycle import repository
from incident.lifecycle.resolve_repository import find_removed
from incident.lifecycle.retention import has_open_side_effects, remove
from incident.model import State
from servicekit.audit.model import Call
from servicekit.outbox.transaction import Transactions


class CanaryUseCase:
    """The use case over one database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def remove(self, incident_id: str, *, call: Call) -> bool:
        """Remove a canary with all its rows but its id; False when it was removed before. Idempotent.

        Raises IncidentNotFoundError, NotCanaryError, and TransitionNotAllowedError when it is not RESOLVED, or a side effect
        of it is PENDING or PARKED.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            incident = await repository.get_for_update(connection, incident_id)
            if incident is None:
                if incident_id in await find_removed(connection, [incident_id]):
                    return False
                raise IncidentNotFoundError(incident_id)
            if not incident.is_canary:
                raise NotCanaryError(incident_id)
            if incident.state is not State.RESOLVED or await has_open_side_effects(connection, incident_id):
                raise TransitionNotAllowedError(
                    incident_id, current=incident.state, allowed=(State.RESOLVED,)
                )
            await remove(transaction, {incident_id: incident.resolution_number})
            transaction.record(call, incident_id)
            return True
