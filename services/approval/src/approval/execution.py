"""Executes approved actions: outcome and intent to resolve in one transaction."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from approval import deliveries, repository
from approval.action_grammar import ActionSyntaxError, parse_action
from approval.errors import (
    ActionChangedError,
    ApprovalChangedError,
    ApprovalNotFoundError,
    ExecutorMissingError,
    TransitionNotAllowedError,
)
from approval.model import (
    ALLOWED_FROM,
    EXECUTED,
    Approval,
    Execution,
    OperationKind,
    Outcome,
    PlanCheck,
    ResolveIntent,
    State,
    Transition,
    action_hash,
    can_be_executed,
    outcome_without_executor,
)
from servicekit.database import autocommit
from servicekit.failpoints import failpoint
from servicekit.joined_writes import JoinedWrites
from servicekit.outbox import queue
from servicekit.outbox.dispatch import Dispatcher
from servicekit.outbox.queue import Job

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Execute:
    """A wish to execute an approval; with an `etag` only as it was read."""

    approval_id: str
    etag: str = ""


class Executions:
    """Execution of approvals over one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        outbox: Dispatcher,
        executable: Collection[OperationKind],
        counter_shard: int,
    ) -> None:
        """`executable` are the kinds of operation that this process has an executor for."""
        self._engine = engine
        self._one_statement = autocommit(engine)
        self._outbox = outbox
        self._executable = executable
        self._counter_shard = counter_shard
        self._joined = JoinedWrites(self._execute_together)

    async def execute(self, command: Execute) -> Execution:
        """Execute an APPROVED approval, together with whoever else is waiting to; an executed one is returned as it is.

        The incident service is told in the background: whether it can be reached changes nothing here. Raises
        ApprovalNotFoundError, TransitionNotAllowedError, ActionChangedError, ExecutorMissingError,
        ApprovalChangedError.
        """
        return await self._joined(command)

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
            PlanCheck("action_unchanged", _is_unchanged(approval), ""),
            PlanCheck("executor_present", can_be_executed(approval.operation, self._executable), ""),
        ]

    async def _execute_together(self, commands: Sequence[Execute]) -> Sequence[Execution | Exception]:
        # Of several commands for one approval the first executes; the others see its outcome.
        first: dict[str, Execute] = {}
        for command in commands:
            first.setdefault(command.approval_id, command)
        failpoint("execute_before_transaction")
        async with self._engine.begin() as connection:
            results, jobs = await self._execute(connection, first)
            failpoint("execute_before_commit")
        failpoint("execute_after_commit")
        for execution in results.values():
            _log_outcome(execution)
        self._outbox.offer(jobs)
        answers: list[Execution | Exception] = []
        for command in commands:
            result = results[command.approval_id]
            if command is not first[command.approval_id] and isinstance(result, Execution):
                result = Execution(result.approval, already_executed=True)
            answers.append(result)
        return answers

    async def _execute(
        self, connection: AsyncConnection, commands: dict[str, Execute]
    ) -> tuple[dict[str, Execution | Exception], Sequence[Job]]:
        locked = await repository.get_for_update(connection, list(commands))
        results: dict[str, Execution | Exception] = {}
        outcomes: list[tuple[Approval, Outcome]] = []
        for approval_id, command in commands.items():
            judged = self._judge(locked.get(approval_id), command)
            if isinstance(judged, Outcome):
                outcomes.append((locked[approval_id], judged))
            else:
                results[approval_id] = judged
        if not outcomes:
            return results, []
        await repository.finish(connection, outcomes, shard=self._counter_shard)
        intents = [
            deliveries.resolve_job(
                ResolveIntent(
                    approval.approval_id, approval.incident_id, outcome.resolution_type, approval.action
                )
            )
            for approval, outcome in outcomes
            if outcome.resolution_type is not None
        ]
        jobs = await queue.enqueue(connection, intents, lease=self._outbox.lease) if intents else []
        finished = await repository.get(connection, [approval.approval_id for approval, _ in outcomes])
        for approval_id, approval in finished.items():
            results[approval_id] = Execution(approval, already_executed=False)
        return results, jobs

    def _judge(self, approval: Approval | None, command: Execute) -> Outcome | Execution | Exception:
        """Return what executing comes to, or the stored outcome, or why it is refused."""
        if approval is None:
            return ApprovalNotFoundError(command.approval_id)
        if approval.state in EXECUTED:
            return Execution(approval, already_executed=True)
        allowed = ALLOWED_FROM[Transition.EXECUTE]
        if approval.effective_state not in allowed:
            return TransitionNotAllowedError(
                approval.approval_id, current=approval.effective_state, allowed=allowed
            )
        if command.etag and command.etag != approval.etag:
            return ApprovalChangedError(approval.approval_id)
        if not _is_unchanged(approval):
            return ActionChangedError(approval.approval_id)
        return outcome_without_executor(approval) or ExecutorMissingError(approval.approval_id)


def _is_unchanged(approval: Approval) -> bool:
    """Tell whether the action would still be read as what was approved."""
    try:
        operation = parse_action(approval.action)
    except ActionSyntaxError:
        operation = None
    return action_hash(approval.action, operation) == approval.action_hash


def _log_outcome(execution: Execution | Exception) -> None:
    if isinstance(execution, Exception) or execution.already_executed:
        return
    approval = execution.approval
    facts = {"approval_id": approval.approval_id, "incident_id": approval.incident_id}
    if approval.operation is not None and approval.operation.kind is OperationKind.NO_ACTION:
        _log.info("background_execution_noop", path="no_action", **facts)
    elif approval.state is State.FAILED:
        _log.warning("background_execution_failed", path="failed", reason=approval.outcome_message, **facts)
