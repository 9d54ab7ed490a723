"""Executes approved actions: outcome and intent to resolve in one transaction."""

from collections.abc import Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from approval.delivery import repository as deliveries
from approval.delivery.timeline import timeline_job
from approval.errors import ApprovalNotFoundError
from approval.execution.preconditions import is_unchanged, judge
from approval.execution.runner import Operations
from approval.executors.registry import Executors
from approval.lifecycle import repository
from approval.model import (
    Approval,
    Execute,
    Execution,
    OperationKind,
    Outcome,
    PlanCheck,
    ResolveIntent,
    State,
    TimelineEvent,
    outcome_without_executor,
)
from servicekit.database.engine import autocommit
from servicekit.database.group_commit import GroupCommit
from servicekit.outbox import queue
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.queue import Job, NewJob
from servicekit.process.failpoints import failpoint

_log = structlog.get_logger()


class Executions:
    """Execution of approvals over one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        operations: Operations,
        *,
        outbox: Outbox,
        executors: Executors,
        counter_shard: int,
    ) -> None:
        self._engine = engine
        self._one_statement = autocommit(engine)
        self._operations = operations
        self._outbox = outbox
        self._executors = executors
        self._counter_shard = counter_shard
        self._joined: GroupCommit[Execute, Execution | Approval] = GroupCommit(self._execute_together)

    async def execute(self, command: Execute, *, wait: bool = True) -> Execution:
        """Execute an approval; an executed one is returned as it is.

        What needs no executor is executed at once, together with whoever else is waiting to; the incident service is
        told in the background, and whether it can be reached changes nothing here. An operation is started and, with
        `wait`, waited for. Raises ApprovalNotFoundError, TransitionNotAllowedError, ActionChangedError,
        ApprovalChangedError and what Operations.execute raises.
        """
        executed = await self._joined(command)
        if isinstance(executed, Execution):
            return executed
        return await self._operations.execute(executed, command, wait=wait)

    async def plan(self, approval_id: str) -> tuple[Approval, Sequence[PlanCheck]]:
        """Return an approval and the checks that executing it makes, without executing.

        Raises ApprovalNotFoundError.
        """
        async with self._one_statement.connect() as connection:
            found = await repository.get(connection, [approval_id])
        if approval_id not in found:
            raise ApprovalNotFoundError(approval_id)
        approval = found[approval_id]
        parsed = approval.operation is not None
        return approval, [
            PlanCheck("approved", approval.state is State.APPROVED, f"state is {approval.state}"),
            PlanCheck(
                "not_expired",
                not approval.is_past_expiry,
                f"expires {approval.expire_time:%Y-%m-%dT%H:%M:%SZ}",
            ),
            PlanCheck("action_parsed", parsed, approval.parse_error),
            PlanCheck("action_unchanged", is_unchanged(approval), ""),
            *await self._executor_checks(approval),
        ]

    async def _executor_checks(self, approval: Approval) -> Sequence[PlanCheck]:
        operation = approval.operation
        if operation is None or operation.kind is OperationKind.NO_ACTION:
            return []
        found = self._executors.find(operation.kind)
        if found is None:
            return [PlanCheck("executor_present", passed=False, message=f"no executor runs {operation.kind}")]
        name, executor = found
        return [PlanCheck("executor_present", passed=True, message=name), *await executor.plan(operation)]

    async def _execute_together(
        self, commands: Sequence[Execute]
    ) -> Sequence[Execution | Approval | Exception]:
        """Execute what needs no executor; in place of the others, the approval that may be executed."""
        failpoint("execute_before_transaction")
        async with self._engine.begin() as connection:
            results, jobs = await self._execute(connection, commands)
            failpoint("execute_before_commit")
        failpoint("execute_after_commit")
        for result in results:
            if isinstance(result, Execution):
                _log_outcome(result)
        self._outbox.dispatch(jobs)
        return results

    async def _execute(
        self, connection: AsyncConnection, commands: Sequence[Execute]
    ) -> tuple[Sequence[Execution | Approval | Exception], Sequence[Job]]:
        locked = await repository.get_for_update(connection, sorted({each.approval_id for each in commands}))
        # Each command is judged by itself. Of several for one approval the first that may executes it.
        judged = [judge(locked.get(command.approval_id), command) for command in commands]
        outcomes: dict[str, Outcome] = {}
        for each in judged:
            if isinstance(each, Approval) and (outcome := outcome_without_executor(each)) is not None:
                outcomes.setdefault(each.approval_id, outcome)
        if not outcomes:
            return judged, []
        executed = [(locked[approval_id], outcome) for approval_id, outcome in outcomes.items()]
        await repository.finish(connection, executed, shard=self._counter_shard)
        intents = [intent for approval, outcome in executed for intent in _intents(approval, outcome)]
        jobs = await queue.enqueue(connection, intents, lease=self._outbox.lease)
        finished = await repository.get(connection, list(outcomes))
        results: list[Execution | Approval | Exception] = []
        first: set[str] = set()
        for each in judged:
            if isinstance(each, Approval) and each.approval_id in outcomes:
                results.append(
                    Execution(finished[each.approval_id], already_executed=each.approval_id in first)
                )
                first.add(each.approval_id)
            else:
                results.append(each)
        return results, jobs


def _intents(approval: Approval, outcome: Outcome) -> Sequence[NewJob]:
    if outcome.resolution_type is None:
        return [timeline_job(approval, TimelineEvent.EXECUTION_FAILED, summary=outcome.message)]
    return [
        deliveries.resolve_job(
            ResolveIntent(
                approval.approval_id, approval.incident_id, outcome.resolution_type, approval.action
            )
        ),
        timeline_job(approval, TimelineEvent.EXECUTED, summary=approval.action),
    ]


def _log_outcome(execution: Execution) -> None:
    if execution.already_executed:
        return
    approval = execution.approval
    facts = {"approval_id": approval.approval_id, "incident_id": approval.incident_id}
    if approval.operation is not None and approval.operation.kind is OperationKind.NO_ACTION:
        _log.info("background_execution_noop", path="no_action", **facts)
    elif approval.state is State.FAILED:
        _log.warning("background_execution_failed", path="failed", reason=approval.outcome_message, **facts)
