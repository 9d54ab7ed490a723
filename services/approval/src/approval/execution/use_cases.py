"""Execute: the outcome and the intent to resolve the incident are committed in one transaction."""

from collections.abc import Mapping, Sequence
from typing import assert_never

import structlog

from approval.delivery import timeline_entries
from approval.delivery.model import TimelineEvent
from approval.delivery.resolve_job import executed_intent, resolve_job
from approval.delivery.timeline_job import timeline_job
from approval.errors import ApprovalError, ApprovalNotFoundError
from approval.execution import preconditions
from approval.execution import repository as execution_repository
from approval.execution.model import (
    EXECUTED,
    ExecuteCommand,
    Executed,
    ExecuteResult,
    NeedsExecutor,
    Outcome,
    Refused,
    outcome_without_executor,
)
from approval.execution.runner import OperationRunner
from approval.lifecycle import repository
from approval.model import Approval, OperationKind, State
from servicekit.audit.model import Call
from servicekit.database.group_commit import GroupCommit
from servicekit.outbox.queue import NewJob
from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.process.failpoints import failpoint

_log = structlog.get_logger()


class ExecuteUseCase:
    """Executions over one database."""

    def __init__(self, transactions: Transactions, runner: OperationRunner) -> None:
        self._transactions = transactions
        self._runner = runner
        self._group_commit: GroupCommit[tuple[ExecuteCommand, Call], ExecuteResult] = GroupCommit(
            self._execute_batch
        )

    async def execute(self, command: ExecuteCommand, *, call: Call, wait: bool = True) -> Executed:
        """Execute an approval. Idempotent: an executed one is returned with its stored outcome.

        One that needs no executor is executed at once, in a group commit with concurrent calls; its incident is resolved
        through the outbox, so that an unreachable incident service changes nothing here. An operation is started and,
        with `wait`, waited for. Raises ApprovalNotFoundError, what `preconditions.check` raises and what
        OperationRunner.execute raises.
        """
        match await self._group_commit((command, call)):
            case Executed() as executed:
                return executed
            case NeedsExecutor(approval):
                return await self._runner.execute(approval, command, call=call, wait=wait)
            case Refused(error):
                raise error
            case other:
                assert_never(other)

    async def _execute_batch(
        self, commands: Sequence[tuple[ExecuteCommand, Call]]
    ) -> Sequence[ExecuteResult]:
        failpoint("execute_before_transaction")
        async with self._transactions.begin() as transaction:
            results = await _execute(transaction, commands)
            failpoint("execute_before_commit")
        failpoint("execute_after_commit")
        for result in results:
            if isinstance(result, Executed) and not result.already_executed:
                _log_outcome(result.approval)
        return results


async def _execute(
    transaction: Transaction, calls: Sequence[tuple[ExecuteCommand, Call]]
) -> Sequence[ExecuteResult]:
    commands = [command for command, _ in calls]
    ids = sorted({command.approval_id for command in commands})
    locked = await repository.get_many_for_update(transaction.connection, ids)
    # Each command is checked by itself. Of several for one approval the first that may executes it.
    checked = [_check(locked.get(command.approval_id), command) for command in commands]
    outcomes: dict[str, Outcome] = {}
    for (command, call), each in zip(calls, checked, strict=True):
        if isinstance(each, Outcome) and command.approval_id not in outcomes:
            outcomes[command.approval_id] = each
            transaction.record(call, command.approval_id)
    finished: Mapping[str, Approval] = {}
    if outcomes:
        executed = [(locked[approval_id], outcome) for approval_id, outcome in outcomes.items()]
        await execution_repository.record_outcomes(transaction, executed)
        finished = await repository.get_many(transaction.connection, list(outcomes))
        for approval, outcome in executed:
            transaction.enqueue(*_jobs(finished[approval.approval_id], outcome))
    results: list[ExecuteResult] = []
    for command, each in zip(commands, checked, strict=True):
        if isinstance(each, Outcome):
            is_first = outcomes.pop(command.approval_id, None) is not None
            results.append(Executed(finished[command.approval_id], already_executed=not is_first))
        else:
            results.append(each)
    return results


def _check(approval: Approval | None, command: ExecuteCommand) -> ExecuteResult | Outcome:
    """Return the result of a command for a locked approval, or the outcome to which it brings the approval."""
    if approval is None:
        return Refused(ApprovalNotFoundError(command.approval_id))
    if approval.state in EXECUTED:
        return Executed(approval, already_executed=True)
    try:
        preconditions.check(approval, command)
    except ApprovalError as exc:
        return Refused(exc)
    return outcome_without_executor(approval) or NeedsExecutor(approval)


def _jobs(approval: Approval, outcome: Outcome) -> Sequence[NewJob]:
    """Return the jobs of an execution."""
    if outcome.resolution_type is None:
        failed = timeline_entries.entry(
            approval.approval_id,
            approval.incident_id,
            TimelineEvent.EXECUTION_FAILED,
            approval.finish_time,
            summary=outcome.message,
        )
        return [timeline_job(failed)]
    executed = timeline_entries.executed(
        approval.approval_id,
        approval.incident_id,
        approval.finish_time,
        action=approval.action,
        executor="",
    )
    return [resolve_job(executed_intent(approval, outcome.resolution_type)), timeline_job(executed)]


def _log_outcome(approval: Approval) -> None:
    facts = {"approval_id": approval.approval_id, "incident_id": approval.incident_id}
    if approval.operation is not None and approval.operation.kind is OperationKind.NO_ACTION:
        _log.info("background_execution_noop", path="no_action", **facts)
    elif approval.state is State.FAILED:
        _log.warning("background_execution_failed", path="failed", reason=approval.outcome_message, **facts)
