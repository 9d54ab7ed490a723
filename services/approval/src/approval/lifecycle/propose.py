"""Propose: records a proposed action; a rule of the policy may approve it at once."""

from collections.abc import Awaitable, Callable, Collection, Sequence

import structlog

from approval.actions.parsed import parse
from approval.delivery import timeline_entries
from approval.delivery.model import FoundIncident, IncidentCheck, IncidentDirectory
from approval.delivery.timeline_job import timeline_job
from approval.errors import IncidentNotFoundError, IncidentResolvedError
from approval.lifecycle import repository, supersede
from approval.lifecycle.execution_job import execution_jobs
from approval.model import (
    ID_PREFIX,
    Approval,
    DecisionKind,
    NotificationEvent,
    OperationKind,
    Proposal,
    State,
)
from approval.notification.jobs import Notifications
from approval.policy.model import Policy, Rule
from servicekit.audit.model import Call, background
from servicekit.database.ids import new_id
from servicekit.outbox.queue import NewJob
from servicekit.outbox.transaction import Transaction, Transactions

_log = structlog.get_logger()

# Each attempt tries a longer id; after this many collisions in a row something else is wrong.
_ATTEMPTS = 8


class ProposeUseCase:
    """The use case over one database."""

    def __init__(
        self,
        transactions: Transactions,
        *,
        incidents: IncidentDirectory,
        read_policy: Callable[[], Awaitable[Policy]],
        executable: Collection[OperationKind],
        notifications: Notifications,
    ) -> None:
        """`executable` are the kinds of operation that this process has an executor for.

        `read_policy` is called for each new proposal: the policy may have been switched off since the last one.
        """
        self._transactions = transactions
        self._incidents = incidents
        self._read_policy = read_policy
        self._executable = executable
        self._notifications = notifications

    async def propose(self, proposal: Proposal, *, call: Call, cancels_any: bool) -> Approval:
        """Record a proposed action; idempotent by its request id. A rule of the policy may approve it.

        With `supersedes` it replaces another approval, with `cancels_any` also what another proposed.

        Raises IncidentNotFoundError, IncidentResolvedError, RequestIdReusedError, and what `supersede.find` raises. An incident service that cannot be
        reached is no failure: the approval says that its incident was not verified.
        """
        actor = call.actor
        if proposal.request_id:
            async with self._transactions.statement() as connection:
                known = await repository.find_request(connection, proposal, actor=actor)
                if known is not None:
                    return await repository.get(connection, known)
        incident = await self._incidents.find(proposal.incident_id)
        if incident.check is IncidentCheck.UNKNOWN:
            raise IncidentNotFoundError(proposal.incident_id)
        if incident.check is IncidentCheck.RESOLVED:
            raise IncidentResolvedError(proposal.incident_id)
        # After the look-up of the incident, which takes time: a kill switch that was used meanwhile counts.
        policy = await self._read_policy()
        for attempt in range(_ATTEMPTS):
            approval = await self._record(
                new_id(ID_PREFIX, attempt=attempt),
                proposal,
                incident,
                policy,
                call=call,
                cancels_any=cancels_any,
            )
            if approval is not None:
                return approval
        raise RuntimeError("no free approval id was found")

    async def _record(
        self,
        approval_id: str,
        proposal: Proposal,
        incident: FoundIncident,
        policy: Policy,
        *,
        call: Call,
        cancels_any: bool,
    ) -> Approval | None:
        """Record the proposal under an id; None when the id is taken."""
        actor = call.actor
        async with self._transactions.begin() as transaction:
            superseded: Approval | None = None
            if proposal.supersedes:
                superseded = await repository.get_for_update(transaction.connection, proposal.supersedes)
                # A concurrent retry of the same call was waited for.
                if superseded.superseded_by and (known := await _find_request(transaction, proposal, actor)):
                    return known
                supersede.check(superseded, proposal, actor=actor, cancels_any=cancels_any)
            parsed = parse(proposal.action)
            # No operation is quiet: it changes something outside, for a canary incident too.
            is_noop = parsed.operation is not None and parsed.operation.kind is OperationKind.NO_ACTION
            inserted = await repository.insert(
                transaction,
                approval_id,
                proposal,
                parsed,
                proposed_by=actor,
                incident_verified=incident.check is IncidentCheck.UNRESOLVED,
                incident_opening=incident.opening,
                incident_severity=incident.severity,
                canary=incident.is_canary and is_noop,
                superseded_proposers=() if superseded is None else supersede.proposers(superseded),
            )
            if not inserted:
                # Either a concurrent retry of the same call was faster, or the id is taken.
                return await _find_request(transaction, proposal, actor)
            transaction.record(
                call, approval_id, proposal.incident_id, *([proposal.supersedes] if superseded else [])
            )
            approval = await repository.get(transaction.connection, approval_id)
            if superseded is not None:
                await supersede.withdraw(transaction, superseded, approval, notifications=self._notifications)
            transaction.enqueue(
                timeline_job(
                    timeline_entries.proposed(
                        approval_id,
                        approval.incident_id,
                        approval.create_time,
                        action=approval.action,
                        proposed_by=approval.proposed_by,
                        supersedes=approval.supersedes,
                    )
                )
            )
            rule = policy.find_rule(approval, incident.severity)
            if rule is not None:
                approval = await self._approve(transaction, approval, rule)
            transaction.enqueue(*self._notification(approval, rule, policy))
        if rule is not None:
            _log.info(
                "approval_approved_by_policy",
                approval_id=approval_id,
                incident_id=approval.incident_id,
                rule=rule.name,
            )
        return approval

    def _notification(self, approval: Approval, rule: Rule | None, policy: Policy) -> Sequence[NewJob]:
        if rule is None:
            return self._notifications.jobs(approval, NotificationEvent.PENDING, approval.create_time)
        namespace = "" if approval.operation is None else approval.operation.namespace
        # Most notify no channel.
        if not policy.routes.find(approval.risk, namespace, NotificationEvent.AUTO_APPROVED).channels:
            return []
        return self._notifications.jobs(
            approval, NotificationEvent.AUTO_APPROVED, approval.decide_time, actor=rule.actor
        )

    async def _approve(self, transaction: Transaction, approval: Approval, rule: Rule) -> Approval:
        reason = f"approved by policy rule {rule.name}"
        await repository.insert_decision(
            transaction.connection,
            approval.approval_id,
            actor=rule.actor,
            kind=DecisionKind.APPROVE,
            reason=reason,
            policy_rule=rule.name,
        )
        transaction.record(background("policy", rule.actor), approval.approval_id)
        await repository.decide(transaction, approval, State.APPROVED, message="")
        approved = await repository.get(transaction.connection, approval.approval_id)
        transaction.enqueue(
            timeline_job(
                timeline_entries.approved(
                    approved.approval_id,
                    approved.incident_id,
                    approved.decide_time,
                    approved_by=rule.actor,
                    reason=reason,
                    policy_rule=rule.name,
                )
            ),
            *execution_jobs(approved, self._executable),
        )
        return approved


async def _find_request(transaction: Transaction, proposal: Proposal, actor: str) -> Approval | None:
    """Return the approval that the actor proposed with the proposal's request id; None when there is none."""
    if not proposal.request_id:
        return None
    known = await repository.find_request(transaction.connection, proposal, actor=actor)
    return None if known is None else await repository.get(transaction.connection, known)
