"""Runs operations: durably started, kept alive by a heartbeat, finished by the run that holds the lease.

A process that dies in the middle leaves an approval EXECUTING; `abandoned` brings it to INDETERMINATE when its lease ends.
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from approval.delivery import timeline_entries
from approval.delivery.model import (
    FoundIncident,
    IncidentCheck,
    IncidentDirectory,
    ResolutionType,
    TimelineEvent,
)
from approval.delivery.resolve_job import executed_intent, resolve_job
from approval.delivery.timeline_job import timeline_job
from approval.errors import IncidentNotFoundError
from approval.execution import preconditions
from approval.execution import repository as execution_repository
from approval.execution.errors import ExecutorMissingError, IncidentUnreachableError
from approval.execution.limits import OperationLimits
from approval.execution.model import EXECUTED, ExecuteCommand, Executed, Outcome, RunResult
from approval.executors.protocol import Executor, OperationFailedError, RunContext
from approval.executors.registry import Executors
from approval.lifecycle import repository
from approval.model import (
    OWN_ACTOR,
    Approval,
    ExecutionOutcome,
    NotificationEvent,
    Operation,
    Recovery,
    State,
)
from approval.notification.jobs import Notifications
from approval.recovery.model import RecoveryRules
from servicekit.audit.model import Call, background
from servicekit.database.errors import is_unavailable
from servicekit.outbox.queue import NewJob
from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.process.failpoints import failpoint
from servicekit.text import block

_log = structlog.get_logger()

_RETRY_SECONDS = 1.0
# So much of an executor's output is stored and shown: bytes of UTF-8.
_MAX_OUTPUT_BYTES = 8192


@dataclass(frozen=True, slots=True)
class _Run:
    """An operation that this process has started."""

    approval: Approval
    operation: Operation
    executor_name: str
    executor: Executor
    token: uuid.UUID


class OperationRunner:
    """Runs operations over one database."""

    def __init__(
        self,
        transactions: Transactions,
        executors: Executors,
        incidents: IncidentDirectory,
        *,
        limits: OperationLimits,
        recovery: RecoveryRules | None,
        notifications: Notifications,
    ) -> None:
        """`recovery`: how it is verified whether an operation that worked has helped; None: it is not."""
        self._transactions = transactions
        self._executors = executors
        self._incidents = incidents
        self._limits = limits
        self._recovery = recovery
        self._notifications = notifications
        self._running: set[asyncio.Task[None]] = set()

    async def execute(
        self, approval: Approval, command: ExecuteCommand, *, call: Call, wait: bool
    ) -> Executed:
        """Start the operation of an approval that may be executed; with `wait` return when it has ended.

        A cancelled call does not stop it. An incident that was resolved meanwhile, and maybe reopened, needs no operation
        of this approval: it is CANCELLED with that reason. Raises ExecutorMissingError, IncidentNotFoundError,
        IncidentUnreachableError (nothing is run blind), ApprovalNotFoundError and what `preconditions.check` raises.
        """
        incident = await self._incidents.find(approval.incident_id)
        if incident.check is IncidentCheck.UNREACHABLE:
            raise IncidentUnreachableError(approval.incident_id)
        if incident.check is IncidentCheck.UNKNOWN:
            raise IncidentNotFoundError(approval.incident_id)
        async with self._transactions.begin() as transaction:
            started = await self._start(transaction, command, incident, call)
        if isinstance(started, Executed):
            return started
        failpoint("operation_started")
        task = asyncio.create_task(self._run(started))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if wait:
            await asyncio.shield(task)
        async with self._transactions.statement() as connection:
            ended = await repository.get(connection, approval.approval_id)
        return Executed(ended, already_executed=False)

    async def _start(
        self, transaction: Transaction, command: ExecuteCommand, incident: FoundIncident, call: Call
    ) -> _Run | Executed:
        approval = await repository.get_for_update(transaction.connection, command.approval_id)
        if approval.state in EXECUTED:
            return Executed(approval, already_executed=True)
        preconditions.check(approval, command)
        operation = approval.operation
        found = None if operation is None else self._executors.find(operation.kind)
        if operation is None or found is None:
            raise ExecutorMissingError(approval.approval_id)
        # Whatever comes of it here, this changes the approval.
        transaction.record(call, approval.approval_id)
        reason = _not_needed(approval, incident)
        if reason is not None:
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
        recent = await execution_repository.lock_target(
            transaction.connection, operation.target, approval.approval_id, within=self._limits.cooldown
        )
        exceeded = self._limits.exceeded(recent)
        if exceeded is not None:
            outcome = Outcome(State.FAILED, exceeded, ExecutionOutcome.FAILED, None)
            await execution_repository.record_outcomes(transaction, [(approval, outcome)])
            return await _not_run(transaction, approval, TimelineEvent.EXECUTION_FAILED, exceeded)
        token = await execution_repository.start(transaction, approval, lease=self._limits.lease)
        name, executor = found
        return _Run(approval, operation, name, executor, token)

    async def _run(self, run: _Run) -> None:
        heartbeat = asyncio.create_task(self._keep_lease(run))
        try:
            result = await self._result(run)
            await self._finish(run, result)
        finally:
            heartbeat.cancel()

    async def _result(self, run: _Run) -> RunResult:
        context = RunContext(run.approval.approval_id, run.approval.incident_id, self._limits.timeout)
        bound = asyncio.timeout(self._limits.timeout.total_seconds())
        try:
            async with bound:
                return RunResult(
                    succeeded=True, text=_storable(await run.executor.run(run.operation, context))
                )
        except OperationFailedError as exc:
            return RunResult(succeeded=False, text=_storable(exc))
        except Exception as exc:
            if bound.expired():
                seconds = self._limits.timeout.total_seconds()
                return RunResult(succeeded=False, text=f"did not end within {seconds:.0f} s")
            _log.error(
                "executor_bug", executor=run.executor_name, approval_id=run.approval.approval_id, exc_info=exc
            )
            return RunResult(succeeded=False, text=f"internal error of the executor {run.executor_name}")

    async def _keep_lease(self, run: _Run) -> None:
        while True:
            await asyncio.sleep(self._limits.lease.total_seconds() / 3)
            try:
                async with self._transactions.statement() as connection:
                    is_mine = await execution_repository.heartbeat(
                        connection, run.approval.approval_id, run.token, lease=self._limits.lease
                    )
            except Exception as exc:
                _log.warning("heartbeat_failed", error=type(exc).__name__, database_away=is_unavailable(exc))
                continue
            if not is_mine:
                _log.error("operation_lease_lost", approval_id=run.approval.approval_id)
                return

    async def _finish(self, run: _Run, result: RunResult) -> None:
        """Record how a run ended; retried while the database is unavailable, so that the outcome is not lost."""
        while True:
            failpoint("operation_done")
            try:
                async with self._transactions.begin() as transaction:
                    is_mine = await execution_repository.finish_run(
                        transaction,
                        run.approval.approval_id,
                        run.token,
                        run.operation,
                        result,
                        executor=run.executor_name,
                        recovery=self._recovery,
                    )
                    if is_mine:
                        transaction.record(background("finished", OWN_ACTOR), run.approval.approval_id)
                        ended = await repository.get(transaction.connection, run.approval.approval_id)
                        transaction.enqueue(*_jobs(run, ended, result))
            except Exception as exc:
                if not is_unavailable(exc):
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            break
        _log.info(
            "background_execution_finished" if is_mine else "background_execution_too_late",
            approval_id=run.approval.approval_id,
            incident_id=run.approval.incident_id,
            path="operation",
            succeeded=result.succeeded,
        )

    async def drain(self, within: timedelta) -> None:
        """Wait for running operations; those that take longer are cancelled and become INDETERMINATE."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=within.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


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
        return "not run: the incident was resolved already"
    if 0 < approval.incident_opening < incident.opening:
        return "not run: the incident was resolved and reopened since it was proposed"
    return None


def _jobs(run: _Run, ended: Approval, result: RunResult) -> Sequence[NewJob]:
    if not result.succeeded:
        failed = timeline_entries.entry(
            ended.approval_id,
            ended.incident_id,
            TimelineEvent.EXECUTION_FAILED,
            ended.finish_time,
            summary=result.text,
            attributes={"executor": run.executor_name},
        )
        return [timeline_job(failed)]
    executed = timeline_entries.executed(
        ended.approval_id,
        ended.incident_id,
        ended.finish_time,
        action=ended.action,
        executor=run.executor_name,
    )
    if ended.recovery is Recovery.PENDING:
        # The incident is resolved when its alert is gone.
        return [timeline_job(executed)]
    return [timeline_job(executed), resolve_job(executed_intent(ended, ResolutionType.AUTO_REPAIRED))]


def _storable(output: object) -> str:
    """Return what of an executor's output is stored: text that can be shown and that the database takes, cut at a limit.

    The executor may be anyone's: no output may cost the outcome of its run.
    """
    whole = block(str(output)).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace")
    return whole[:_MAX_OUTPUT_BYTES].decode("utf-8", "ignore")
