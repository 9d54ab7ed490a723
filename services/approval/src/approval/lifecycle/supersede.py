"""A proposal that replaces a PENDING one: which it may replace, and what becomes CANCELLED."""

from collections.abc import Sequence

from approval.delivery import timeline_entries
from approval.delivery.timeline_job import timeline_job
from approval.errors import (
    AlreadySupersededError,
    NotProposerError,
    SupersedesOtherIncidentError,
    TransitionNotAllowedError,
)
from approval.lifecycle import repository
from approval.model import Approval, NotificationEvent, Proposal, State
from approval.notification.jobs import Notifications
from servicekit.identity.canonical import is_same
from servicekit.outbox.transaction import Transaction


def check(superseded: Approval, proposal: Proposal, *, actor: str, cancels_any: bool) -> None:
    """Check that the actor may replace a locked approval by the proposal.

    Raises SupersedesOtherIncidentError, NotProposerError, AlreadySupersededError, TransitionNotAllowedError.
    """
    approval_id = superseded.approval_id
    if superseded.incident_id != proposal.incident_id:
        raise SupersedesOtherIncidentError(approval_id)
    # It is cancelled: by those who could cancel it.
    if not (cancels_any or is_same(superseded.proposed_by, actor)):
        raise NotProposerError
    if superseded.superseded_by:
        raise AlreadySupersededError(approval_id, superseded_by=superseded.superseded_by)
    if superseded.effective_state is not State.PENDING:
        raise TransitionNotAllowedError(
            approval_id, current=superseded.effective_state, allowed=(State.PENDING,)
        )


def proposers(superseded: Approval) -> Sequence[str]:
    """Return who proposed what the successor of an approval replaces, each once."""
    return list(dict.fromkeys(superseded.proposers))


async def withdraw(
    transaction: Transaction, superseded: Approval, successor: Approval, *, notifications: Notifications
) -> None:
    """Bring a locked PENDING approval to CANCELLED, linked to the one that replaces it, and on its incident's timeline."""
    await repository.cancel(
        transaction,
        superseded,
        actor=successor.proposed_by,
        reason=f"superseded by {successor.approval_id}",
        superseded_by=successor.approval_id,
    )
    transaction.enqueue(
        timeline_job(
            timeline_entries.superseded(
                superseded.approval_id,
                superseded.incident_id,
                # The same transaction: its now().
                successor.create_time,
                superseded_by=successor.approval_id,
                action=successor.action,
                actor=successor.proposed_by,
            )
        ),
        *notifications.jobs(
            superseded,
            NotificationEvent.SUPERSEDED,
            successor.create_time,
            actor=successor.proposed_by,
            reason=f"superseded by {successor.approval_id}: {successor.action}",
        ),
    )
