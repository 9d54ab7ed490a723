"""What the approval service does: one use case, one method, one transaction."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from approval.actions.grammar import ActionSyntaxError, parse_action
from approval.delivery import repository as deliveries
from approval.delivery.timeline import timeline_job
from approval.errors import (
    ApprovalChangedError,
    ApprovalNotFoundError,
    DecidedOtherwiseError,
    DeliveryDoneError,
    DeliveryNotFoundError,
    IncidentNotFoundError,
    IncidentResolvedError,
    OwnProposalError,
    TransitionNotAllowedError,
)
from approval.execution import log_repository as execution_log
from approval.lifecycle import listing, repository
from approval.model import (
    ALLOWED_FROM,
    Approval,
    ApprovalFilter,
    DecisionKind,
    Delivery,
    DeliveryState,
    ExecutionFilter,
    FoundIncident,
    IncidentCheck,
    LoggedExecution,
    OperationKind,
    Proposal,
    State,
    TimelineEvent,
    Transition,
    action_hash,
    can_be_executed,
    new_approval_id,
)
from approval.policy.model import Policy, Rule
from servicekit.database.counters import raise_counters
from servicekit.database.engine import autocommit
from servicekit.outbox import queue
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.queue import Job, NewJob
from servicekit.rpc.paging import cut_page, text_bytes

_log = structlog.get_logger()

EXECUTE_TOPIC = "approval.execute"
# Ids are tried wider and wider; after this many collisions in a row something else is wrong.
_PROPOSE_ATTEMPTS = 8


class IncidentDirectory(Protocol):
    """Knows incidents: the incident service, as far as Propose needs it."""

    async def find(self, incident_id: str) -> FoundIncident:
        """Return what is known about an incident, within a bounded time. Raises nothing: UNREACHABLE says it."""


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """A page of approvals; `next_position` is None on the last."""

    approvals: Sequence[Approval]
    next_position: tuple[datetime, str] | None


class ApprovalUseCases:
    """The approval service's use cases over one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        incidents: IncidentDirectory,
        read_policy: Callable[[], Awaitable[Policy]],
        outbox: Outbox,
        executable: Collection[OperationKind],
        counter_shard: int,
    ) -> None:
        """`executable` are the kinds of operation that this process has an executor for.

        `read_policy` is asked for each new proposal: what it answered before may be switched off since.
        """
        self._engine = engine
        self._one_statement = autocommit(engine)
        self._incidents = incidents
        self._read_policy = read_policy
        self._outbox = outbox
        self._executable = executable
        self._counter_shard = counter_shard

    async def propose(self, proposal: Proposal, *, actor: str) -> Approval:
        """Record a proposed action, or find the one that this call already recorded; a policy's rule may approve it.

        Raises IncidentNotFoundError, IncidentResolvedError, RequestIdReusedError. An incident service that cannot be
        reached stops nobody: the approval says that its incident was not verified.
        """
        if proposal.request_id:
            async with self._one_statement.connect() as connection:
                known = await repository.find_request(connection, proposal)
                if known is not None:
                    return (await repository.get(connection, [known]))[known]
        found = await self._incidents.find(proposal.incident_id)
        if found.check is IncidentCheck.UNKNOWN:
            raise IncidentNotFoundError(proposal.incident_id)
        if found.check is IncidentCheck.RESOLVED:
            raise IncidentResolvedError(proposal.incident_id)
        parsed = _parse(proposal.action)
        # After the look at the incident, which takes time: a switch that was thrown meanwhile counts.
        policy = await self._read_policy()
        queued: Sequence[Job] = []
        rule: Rule | None = None
        for attempt in range(_PROPOSE_ATTEMPTS):
            approval_id = new_approval_id(attempt=attempt)
            async with self._engine.begin() as connection:
                inserted = await repository.insert(
                    connection,
                    approval_id,
                    proposal,
                    parsed,
                    proposed_by=actor,
                    incident_verified=found.check is IncidentCheck.UNRESOLVED,
                )
                if inserted:
                    approval = (await repository.get(connection, [approval_id]))[approval_id]
                    rule = policy.find_rule(approval, found.severity)
                    approval, queued = await self._recorded(connection, approval, rule)
                elif proposal.request_id and (known := await repository.find_request(connection, proposal)):
                    # The same call, at the same time, was faster.
                    approval_id = known
                    approval = (await repository.get(connection, [approval_id]))[approval_id]
                else:
                    continue
            if rule is not None:
                _log.info(
                    "approval_approved_by_policy",
                    approval_id=approval_id,
                    incident_id=approval.incident_id,
                    rule=rule.name,
                )
            self._outbox.dispatch(queued)
            return approval
        raise RuntimeError("no free approval id was found")

    async def _recorded(
        self, connection: AsyncConnection, approval: Approval, rule: Rule | None
    ) -> tuple[Approval, Sequence[Job]]:
        """Tell and count a new approval, which `rule` approves where there is one, and queue what follows."""
        jobs = [
            timeline_job(
                approval,
                TimelineEvent.PROPOSED,
                summary=approval.action,
                attributes={"proposed_by": approval.proposed_by},
            )
        ]
        if rule is not None:
            reason = f"approved by policy rule {rule.name}"
            attributes = {"approved_by": rule.actor, "policy_rule": rule.name}
            jobs += [
                timeline_job(approval, TimelineEvent.APPROVED, summary=reason, attributes=attributes),
                *self._execution_intent(approval),
            ]
            await repository.insert_decision(
                connection,
                approval.approval_id,
                actor=rule.actor,
                kind=DecisionKind.APPROVE,
                reason=reason,
                policy_rule=rule.name,
            )
            await repository.decide(
                connection, approval, State.APPROVED, message="", shard=self._counter_shard
            )
        # After the decision, which lowers it again: the rows of two counters are locked in one order everywhere.
        await raise_counters(
            connection, {(repository.APPROVALS, State.PENDING): 1}, shard=self._counter_shard
        )
        queued = await queue.enqueue(connection, jobs, lease=self._outbox.lease)
        if rule is None:
            return approval, queued
        return (await repository.get(connection, [approval.approval_id]))[approval.approval_id], queued

    async def get(self, approval_id: str) -> Approval:
        """Return an approval. Raises ApprovalNotFoundError."""
        async with self._one_statement.connect() as connection:
            found = await repository.get(connection, [approval_id])
        if approval_id not in found:
            raise ApprovalNotFoundError(approval_id)
        return found[approval_id]

    async def list(
        self, narrow: ApprovalFilter, *, after: tuple[datetime, str] | None, page_size: int
    ) -> ApprovalPage:
        """Return the page of approvals behind `after` (None: the first)."""
        async with self._one_statement.connect() as connection:
            found = await listing.list_approvals(connection, narrow, after=after, limit=page_size + 1)
        page, more = cut_page(
            found,
            page_size,
            lambda each: text_bytes(
                each.action,
                each.rationale,
                each.outcome_message,
                *(decision.reason for decision in each.decisions),
            ),
        )
        return ApprovalPage(page, listing.position(narrow, page[-1]) if more else None)

    async def approve(self, approval_id: str, *, actor: str, reason: str, etag: str) -> Approval:
        """Add the actor's yes; with enough of them the approval is APPROVED, and its execution queued if it asks so.

        Raises what `_decide` raises.
        """
        return await self._decide(
            approval_id, DecisionKind.APPROVE, Transition.APPROVE, actor=actor, reason=reason, etag=etag
        )

    async def reject(self, approval_id: str, *, actor: str, reason: str, etag: str) -> Approval:
        """Bring the approval to REJECTED: one no is enough. Raises what `_decide` raises."""
        return await self._decide(
            approval_id, DecisionKind.REJECT, Transition.REJECT, actor=actor, reason=reason, etag=etag
        )

    async def cancel(self, approval_id: str, *, actor: str, reason: str, etag: str) -> Approval:
        """Withdraw an approval that was not executed, or close an INDETERMINATE one without running it again.

        Cancelled already by the same actor: the record as it is. Raises ApprovalNotFoundError,
        TransitionNotAllowedError, ApprovalChangedError.
        """
        async with self._engine.begin() as connection:
            approval = (await repository.get_for_update(connection, [approval_id])).get(approval_id)
            if approval is None:
                raise ApprovalNotFoundError(approval_id)
            if approval.state is State.CANCELLED and approval.cancelled_by == actor:
                return approval
            allowed = ALLOWED_FROM[Transition.CANCEL]
            if approval.effective_state not in allowed:
                raise TransitionNotAllowedError(
                    approval_id, current=approval.effective_state, allowed=allowed
                )
            if etag and etag != approval.etag:
                raise ApprovalChangedError(approval_id)
            await repository.cancel(
                connection, approval, actor=actor, reason=reason, shard=self._counter_shard
            )
            queued = await self._tell(
                connection, approval, TimelineEvent.CANCELLED, summary=reason, actor=actor
            )
            cancelled = (await repository.get(connection, [approval_id]))[approval_id]
        self._outbox.dispatch(queued)
        return cancelled

    async def _decide(
        self,
        approval_id: str,
        kind: DecisionKind,
        transition: Transition,
        *,
        actor: str,
        reason: str,
        etag: str,
    ) -> Approval:
        """Record a decision under the approval's lock: of two that race, the second sees the first.

        The same decision of the same actor again is the record as it is. Raises ApprovalNotFoundError,
        DecidedOtherwiseError, TransitionNotAllowedError, OwnProposalError, ApprovalChangedError.
        """
        queued: Sequence[Job] = []
        async with self._engine.begin() as connection:
            approval = (await repository.get_for_update(connection, [approval_id])).get(approval_id)
            if approval is None:
                raise ApprovalNotFoundError(approval_id)
            before = next((decision for decision in approval.decisions if decision.actor == actor), None)
            if before is not None and before.kind is kind:
                return approval
            if before is not None:
                raise DecidedOtherwiseError(
                    approval_id, current=approval.effective_state, allowed=ALLOWED_FROM[transition]
                )
            allowed = ALLOWED_FROM[transition]
            if approval.effective_state not in allowed:
                raise TransitionNotAllowedError(
                    approval_id, current=approval.effective_state, allowed=allowed
                )
            if actor == approval.proposed_by:
                raise OwnProposalError
            if etag and etag != approval.etag:
                raise ApprovalChangedError(approval_id)
            await repository.insert_decision(connection, approval_id, actor=actor, kind=kind, reason=reason)
            if kind is DecisionKind.REJECT:
                await repository.decide(
                    connection, approval, State.REJECTED, message=reason, shard=self._counter_shard
                )
                queued = await self._tell(
                    connection, approval, TimelineEvent.REJECTED, summary=reason, actor=actor
                )
            elif len(approval.decisions) + 1 >= approval.required_approvals:
                await repository.decide(
                    connection, approval, State.APPROVED, message="", shard=self._counter_shard
                )
                queued = await queue.enqueue(
                    connection,
                    [
                        timeline_job(
                            approval,
                            TimelineEvent.APPROVED,
                            summary=reason,
                            attributes={"approved_by": actor},
                        ),
                        *self._execution_intent(approval),
                    ],
                    lease=self._outbox.lease,
                )
            decided = (await repository.get(connection, [approval_id]))[approval_id]
        self._outbox.dispatch(queued)
        return decided

    def _execution_intent(self, approval: Approval) -> Sequence[NewJob]:
        if not approval.auto_execute or not can_be_executed(approval.operation, self._executable):
            return []
        return [NewJob(EXECUTE_TOPIC, approval.approval_id, {"approval_id": approval.approval_id})]

    async def _tell(
        self,
        connection: AsyncConnection,
        approval: Approval,
        event: TimelineEvent,
        *,
        summary: str,
        actor: str,
    ) -> Sequence[Job]:
        job = timeline_job(approval, event, summary=summary, attributes={"actor": actor})
        return await queue.enqueue(connection, [job], lease=self._outbox.lease)

    async def list_executions(
        self, narrow: ExecutionFilter, *, before: int | None, page_size: int
    ) -> tuple[Sequence[LoggedExecution], int | None]:
        """Return a page of the log of repairs older than the id `before`, and where the next one starts."""
        async with self._one_statement.connect() as connection:
            found = await execution_log.list_executions(
                connection, narrow, before=before, limit=page_size + 1
            )
        page, more = cut_page(found, page_size, lambda each: text_bytes(each.output, each.error))
        return page, page[-1].execution_id if more else None

    async def list_deliveries(
        self, *, states: Sequence[DeliveryState], approval_id: str, before: int | None, page_size: int
    ) -> tuple[Sequence[Delivery], int | None]:
        """Return a page of deliveries older than the id `before` (None: the newest), and where the next one starts."""
        async with self._one_statement.connect() as connection:
            found = await deliveries.list_deliveries(
                connection, states=states, approval_id=approval_id, before=before, limit=page_size + 1
            )
        page = found[:page_size]
        return page, page[-1].delivery_id if len(found) > page_size else None

    async def retry_delivery(self, delivery_id: int) -> Delivery:
        """Put a PARKED delivery back to PENDING, due now; a PENDING one is returned as it is.

        Raises DeliveryNotFoundError, DeliveryDoneError.
        """
        async with self._engine.begin() as connection:
            delivery = await deliveries.get_for_update(connection, delivery_id)
            if delivery is None:
                raise DeliveryNotFoundError
            if delivery.state is DeliveryState.DONE:
                raise DeliveryDoneError
            if delivery.state is DeliveryState.PARKED:
                await deliveries.requeue(connection, delivery_id)
                delivery = await deliveries.get_for_update(connection, delivery_id) or delivery
        self._outbox.wake()
        return delivery


def _parse(action: str) -> repository.ParsedAction:
    try:
        operation = parse_action(action)
    except ActionSyntaxError as exc:
        return repository.ParsedAction(None, str(exc), action_hash(action, None))
    return repository.ParsedAction(operation, "", action_hash(action, operation))
