"""Removes the approval of a canary incident once it has ended: it leaves the stats as if it had never been."""

from sqlalchemy import text

from approval.counters import APPROVALS
from approval.errors import ApprovalNotFoundError, NotCanaryError, TransitionNotAllowedError
from approval.lifecycle import repository
from approval.model import Approval, State
from servicekit.audit.model import Call
from servicekit.outbox.transaction import Transactions

_ENDED = (State.SUCCEEDED, State.FAILED, State.REJECTED, State.CANCELLED, State.EXPIRED)
# The function is the owner's (see its migration).
_REMOVE = text("SELECT state FROM remove_canary(:approval_id, :version)")


class CanaryUseCase:
    """The use case over one database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def remove(self, approval_id: str, *, call: Call) -> bool:
        """Remove a canary's approval; False when it is not there. Idempotent.

        Raises NotCanaryError, and TransitionNotAllowedError when it has not ended, or the incident service has not
        acknowledged its resolve.
        """
        async with self._transactions.begin() as transaction:
            try:
                approval = await repository.get_for_update(transaction.connection, approval_id)
            except ApprovalNotFoundError:
                return False
            _check(approval)
            parameters = {"approval_id": approval_id, "version": approval.version}
            state: str = (await transaction.connection.execute(_REMOVE, parameters)).scalar_one()
            transaction.count(APPROVALS, state, -1)
            transaction.record(call, approval_id)
            return True


def _check(approval: Approval) -> None:
    if not approval.canary:
        raise NotCanaryError(approval.approval_id)
    is_acknowledged = approval.state is not State.SUCCEEDED or approval.incident_resolve_time is not None
    if approval.state not in _ENDED or not is_acknowledged:
        raise TransitionNotAllowedError(approval.approval_id, current=approval.state, allowed=_ENDED)
