"""The start of an operation: it is claimed, then announced to the incident service, and only then run.

The claim keeps other processes off. The announcement changes the incident's etag, so that no caller resolves the incident by what
they saw before the claim, while the operation runs. What is not announced is not run: the claim is given back.
"""

import asyncio
import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import assert_never

import structlog

from approval.delivery import timeline_entries
from approval.delivery.model import FoundIncident, IncidentCheck, OperatedIncidents, TimelineEvent
from approval.delivery.timeline_job import timeline_job
from approval.errors import ApprovalError, IncidentNotFoundError
from approval.execution import preconditions
from approval.execution import repository as execution_repository
from approval.execution.errors import ExecutorMissingError, IncidentUnreachableError
from approval.execution.limits import OperationLimits
from approval.execution.model import EXECUTED, ExecuteCommand, Executed, Outcome
from approval.execution.recording import until_recorded
from approval.executors.protocol import Executor
from approval.executors.registry import Executors
from approval.lifecycle import repository
from approval.model import OWN_ACTOR, Approval, ExecutionOutcome, NotificationEvent, Operation, State
from approval.notification.jobs import Notifications
from servicekit.audit.model import Call, background
from servicekit.outbox.transaction import Transaction, Transactions

_log = structlog.get_logger()

# How often an operation is announced before its claim is given back, and the first pause in between; each next one is twice as
# long. The outbox or the caller tries again later.
_ANNOUNCEMENTS = 3
_PAUSE_SECONDS = 0.2
_RESOLVED = "not run: the incident was resolved already"
_REOPENED = "not run: the incident was resolved and reopened since it was proposed"


@dataclass(frozen=True, slots=True)
class Run:
    """An operation that this process has claimed; `approval` is as it was before."""

    approval: Approval
    operation: Operation
    executor_name: str
    executor: Executor
    token: uuid.UUID
    execute_time: datetime
    # Of the incident, when it was looked up before the claim.
    opening: int


class OperationStarts:
    """Starts operations over one database."""

    def __init__(
        self,
        transactions: Transactions,
        executors: Executors,
        incidents: OperatedIncidents,
        *,
        limits: OperationLimits,
        notifications: Notifications,
    ) -> None:
        self._transactions = transactions
        self._executors = executors
        self._incidents = incidents
        self._limits = limits
        self._notifications = notifications

    async def claim(self, approval: Approval, command: ExecuteCommand, *, call: Call) -> Run | Executed:
        """Bring an approval to EXECUTING; Executed when it needs no operation, or may not have one now.

        Raises ExecutorMissingError, IncidentNotFoundError, IncidentUnreachableError, ApprovalNotFoundError and what
        `preconditions.check` raises.
        """
        incident = await self._incidents.find(approval.incident_id)
        if incident.check is IncidentCheck.UNREACHABLE:
            raise IncidentUnreachableError(approval.incident_id)
        if incident.check is IncidentCheck.UNKNOWN:
            raise IncidentNotFoundError(approval.incident_id)
        async with self._transactions.begin() as transaction:
            return await self._claim(transaction, command, incident, call)

    async def _claim(
        self, transaction: Transaction, command: ExecuteCommand, incident: FoundIncident, call: Call
    ) -> Run | Executed:
        approval = await repository.get_for_update(transaction.connection, command.approval_id)
        if approval.state in EXECUTED:
            return Executed(approval, already_executed=True)
        preconditions.check(approval, command)
        operation = approval.operation
        found = None if operation is None else self._executors.find(operation.kind)
        if operation is None or found is None:
            raise ExecutorMissingError(approval.approval_id)
        # With every outcome below, this changes the approval.
        transaction.record(call, approval.approval_id)
        reason = _not_needed(approval, incident)
        if reason is not None:
            return await self._cancel(transaction, approval, reason)
        recent = await execution_repository.lock_target(
            transaction.connection, operation.target, approval.approval_id, within=self._limits.cooldown
        )
        exceeded = self._limits.exceeded(recent)
        if exceeded is not None:
            outcome = Outcome(State.FAILED, exceeded, ExecutionOutcome.FAILED, None)
            await execution_repository.record_outcomes(transaction, [(approval, outcome)])
            return await _not_run(transaction, approval, TimelineEvent.EXECUTION_FAILED, exceeded)
        token, execute_time = await execution_repository.start(
            transaction, approval, lease=self._limits.lease
        )
        name, executor = found
        return Run(approval, operation, name, executor, token, execute_time, incident.opening)

    async def announce(self, run: Run) -> bool:
        """Announce a claimed operation; False when it is not to be run.

        It is CANCELLED when its incident was resolved by then. When the incident service cannot be reached, or does not know
        the incident, the claim is given back; raises IncidentUnreachableError, IncidentNotFoundError.
        """
        match await self._announced(run):
            case IncidentCheck.UNRESOLVED:
                return True
            case IncidentCheck.RESOLVED:
                await until_recorded(partial(self._settle, run, reason=_RESOLVED))
                return False
            case IncidentCheck.UNREACHABLE:
                error: ApprovalError = IncidentUnreachableError(run.approval.incident_id)
            case IncidentCheck.UNKNOWN:
                error = IncidentNotFoundError(run.approval.incident_id)
            case other:
                assert_never(other)
        await until_recorded(partial(self._settle, run))
        raise error

    async def _announced(self, run: Run) -> IncidentCheck:
        started = timeline_entries.entry(
            run.approval.approval_id,
            run.approval.incident_id,
            TimelineEvent.EXECUTION_STARTED,
            run.execute_time,
            summary=run.approval.action,
            attributes={"executor": run.executor_name},
        )
        check = await self._incidents.announce(started, opening=run.opening)
        for attempt in range(1, _ANNOUNCEMENTS):
            if check is not IncidentCheck.UNREACHABLE:
                break
            await asyncio.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
            check = await self._incidents.announce(started, opening=run.opening)
        return check

    async def _settle(self, run: Run, *, reason: str = "") -> None:
        """Give the claim of an operation back, and cancel the approval if there is a reason to."""
        approval_id = run.approval.approval_id
        async with self._transactions.begin() as transaction:
            is_mine = await execution_repository.give_back(transaction, run.approval, run.token)
            if is_mine:
                transaction.record(background("not_run", OWN_ACTOR), approval_id)
                if reason:
                    await self._cancel(transaction, run.approval, reason)
        _log.warning("operation_not_run", approval_id=approval_id, reason=reason, was_claimed=is_mine)

    async def _cancel(self, transaction: Transaction, approval: Approval, reason: str) -> Executed:
        await repository.cancel(transaction, approval, actor=OWN_ACTOR, reason=reason)
        cancelled = await _not_run(transaction, approval, TimelineEvent.CANCELLED, reason)
        transaction.enqueue(
            *self._notifications.jobs(
                cancelled.approval,
                NotificationEvent.CANCELLED,
                cancelled.approval.update_time,
                actor=OWN_ACTOR,
                reason=reason,
            )
        )
        return cancelled


async def _not_run(
    transaction: Transaction, approval: Approval, event: TimelineEvent, reason: str
) -> Executed:
    settled = await repository.get(transaction.connection, approval.approval_id)
    entry = timeline_entries.entry(
        settled.approval_id, settled.incident_id, event, settled.update_time, summary=reason
    )
    transaction.enqueue(timeline_job(entry))
    return Executed(settled, already_executed=False)


def _not_needed(approval: Approval, incident: FoundIncident) -> str | None:
    """Return why the operation is not run when its incident is not in the opening that it was proposed for."""
    if incident.check is IncidentCheck.RESOLVED:
        return _RESOLVED
    if 0 < approval.incident_opening < incident.opening:
        return _REOPENED
    return None
