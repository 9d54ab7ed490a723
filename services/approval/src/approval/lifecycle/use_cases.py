"""The use cases of an approval after Propose: read, decide, cancel."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from approval.delivery import timeline_entries
from approval.delivery.model import TimelineEvent
from approval.delivery.timeline_job import timeline_job
from approval.errors import (
    ApprovalChangedError,
    ConflictingDecisionError,
    NotProposerError,
    SelfApprovalError,
    TransitionNotAllowedError,
)
from approval.lifecycle import listing, repository
from approval.lifecycle.execution_job import execution_jobs
from approval.model import (
    ALLOWED_FROM,
    Approval,
    ApprovalFilter,
    DecisionKind,
    NotificationEvent,
    OperationKind,
    State,
    Transition,
)
from approval.notification.jobs import Notifications
from servicekit.audit.model import Call
from servicekit.identity.canonical import folded, is_same
from servicekit.outbox.transaction import Transactions
from servicekit.rpc.paging import read_page, text_bytes


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """A page of approvals; `next_position` is None on the last."""

    approvals: Sequence[Approval]
    next_position: tuple[datetime, str] | None


class ApprovalUseCases:
    """Approvals over one database."""

    def __init__(
        self,
        transactions: Transactions,
        *,
        reads: Transactions,
        executable: Collection[OperationKind],
        notifications: Notifications,
    ) -> None:
        """`reads` serves the list; `executable` are the kinds of operation that this process has an executor for."""
        self._transactions = transactions
        self._reads = reads
        self._executable = executable
        self._notifications = notifications

    async def get(self, approval_id: str) -> Approval:
        """Return an approval. Raises ApprovalNotFoundError."""
        async with self._transactions.statement() as connection:
            return await repository.get(connection, approval_id)

    async def list(
        self, criteria: ApprovalFilter, *, after: tuple[datetime, str] | None, page_size: int
    ) -> ApprovalPage:
        """Return the page of approvals after the position `after` (None: the first)."""
        # Of one snapshot: what changes meanwhile does not move where the page ends.
        async with self._reads.snapshot() as connection:
            page, next_position = await read_page(
                lambda behind, limit: listing.list_approvals(connection, criteria, after=behind, limit=limit),
                examined_to=lambda behind: listing.examined_to(connection, criteria, after=behind),
                after=after,
                position=lambda each: listing.position(criteria, each),
                page_size=page_size,
                size=lambda each: text_bytes(
                    each.action,
                    each.rationale,
                    each.outcome_message,
                    *(decision.reason for decision in each.decisions),
                ),
            )
        return ApprovalPage(page, next_position)

    async def approve(self, approval_id: str, *, call: Call, reason: str, etag: str) -> Approval:
        """Add an approving decision; at the quorum the approval is APPROVED, and with `auto_execute` its execution queued.

        Raises what `_decide` raises.
        """
        return await self._decide(
            approval_id, DecisionKind.APPROVE, Transition.APPROVE, call=call, reason=reason, etag=etag
        )

    async def reject(self, approval_id: str, *, call: Call, reason: str, etag: str) -> Approval:
        """Bring the approval to REJECTED: one rejecting decision is enough. Raises what `_decide` raises."""
        return await self._decide(
            approval_id, DecisionKind.REJECT, Transition.REJECT, call=call, reason=reason, etag=etag
        )

    async def cancel(
        self, approval_id: str, *, call: Call, cancels_any: bool, reason: str, etag: str
    ) -> Approval:
        """Withdraw an approval that was not executed, or close an INDETERMINATE one without running it again.

        `cancels_any`: also what another proposed, and an INDETERMINATE one. Idempotent for the actor who cancelled it. Raises ApprovalNotFoundError,
        NotProposerError, TransitionNotAllowedError, ApprovalChangedError.
        """
        actor = call.actor
        async with self._transactions.begin() as transaction:
            approval = await repository.get_for_update(transaction.connection, approval_id)
            # What may have run half is closed by those who can look at it.
            is_own = is_same(approval.proposed_by, actor) and approval.state is not State.INDETERMINATE
            if not (is_own or cancels_any):
                raise NotProposerError
            if approval.state is State.CANCELLED and is_same(approval.cancelled_by, actor):
                return approval
            allowed = ALLOWED_FROM[Transition.CANCEL]
            if approval.effective_state not in allowed:
                raise TransitionNotAllowedError(
                    approval_id, current=approval.effective_state, allowed=allowed
                )
            if etag and etag != approval.etag:
                raise ApprovalChangedError(approval_id)
            await repository.cancel(transaction, approval, actor=actor, reason=reason)
            transaction.record(call, approval_id)
            cancelled = await repository.get(transaction.connection, approval_id)
            transaction.enqueue(
                timeline_job(
                    timeline_entries.entry(
                        approval_id,
                        cancelled.incident_id,
                        TimelineEvent.CANCELLED,
                        cancelled.update_time,
                        summary=reason,
                        attributes={"actor": actor},
                    )
                ),
                *self._notifications.jobs(
                    cancelled,
                    NotificationEvent.CANCELLED,
                    cancelled.update_time,
                    actor=actor,
                    reason=reason,
                ),
            )
            return cancelled

    async def _decide(
        self,
        approval_id: str,
        kind: DecisionKind,
        transition: Transition,
        *,
        call: Call,
        reason: str,
        etag: str,
    ) -> Approval:
        """Record a decision under the approval's lock: of two concurrent ones, the second sees the first.

        Idempotent: the same decision of the same actor again changes nothing. Raises ApprovalNotFoundError,
        ConflictingDecisionError, TransitionNotAllowedError, SelfApprovalError, ApprovalChangedError.
        """
        actor = call.actor
        allowed = ALLOWED_FROM[transition]
        async with self._transactions.begin() as transaction:
            approval = await repository.get_for_update(transaction.connection, approval_id)
            before = next((each for each in approval.decisions if is_same(each.actor, actor)), None)
            if before is not None and before.kind is kind:
                return approval
            if before is not None:
                raise ConflictingDecisionError(approval_id, current=approval.effective_state, allowed=allowed)
            if approval.effective_state not in allowed:
                raise TransitionNotAllowedError(
                    approval_id, current=approval.effective_state, allowed=allowed
                )
            if any(is_same(proposer, actor) for proposer in approval.proposers):
                raise SelfApprovalError
            if etag and etag != approval.etag:
                raise ApprovalChangedError(approval_id)
            await repository.insert_decision(
                transaction.connection, approval_id, actor=actor, kind=kind, reason=reason
            )
            transaction.record(call, approval_id)
            if kind is DecisionKind.REJECT:
                await repository.decide(transaction, approval, State.REJECTED, message=reason)
            elif len(_approvers(approval)) + 1 >= approval.required_approvals:
                await repository.decide(transaction, approval, State.APPROVED, message="")
            else:
                await repository.touch(transaction.connection, approval_id)
            decided = await repository.get(transaction.connection, approval_id)
            if decided.state is State.REJECTED:
                entry = timeline_entries.entry(
                    approval_id,
                    decided.incident_id,
                    TimelineEvent.REJECTED,
                    decided.decide_time,
                    summary=reason,
                    attributes={"actor": actor},
                )
                notifications = self._notifications.jobs(
                    decided, NotificationEvent.REJECTED, decided.decide_time, actor=actor, reason=reason
                )
                transaction.enqueue(timeline_job(entry), *notifications)
            elif decided.state is State.APPROVED:
                entry = timeline_entries.approved(
                    approval_id,
                    decided.incident_id,
                    decided.decide_time,
                    approved_by=actor,
                    reason=reason,
                    policy_rule="",
                )
                notifications = self._notifications.jobs(
                    decided, NotificationEvent.APPROVED, decided.decide_time, actor=actor, reason=reason
                )
                transaction.enqueue(
                    timeline_job(entry), *execution_jobs(decided, self._executable), *notifications
                )
            return decided


def _approvers(approval: Approval) -> frozenset[str]:
    """Return who approved it, each once.

    Versions before identities were canonical may have recorded one person under two spellings, or a proposer's own.
    """
    approvers = {folded(each.actor) for each in approval.decisions if each.kind is DecisionKind.APPROVE}
    return frozenset(approvers - {folded(each) for each in approval.proposers})
