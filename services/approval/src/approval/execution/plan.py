"""Execute with `validate_only`: what executing an approval would check. Nothing is changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from approval.actions.parsed import is_unchanged
from approval.executors.protocol import PlanCheck
from approval.executors.registry import Executors
from approval.lifecycle import repository
from approval.model import Approval, OperationKind, State
from servicekit.outbox.transaction import Transactions


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """An approval and each condition of its execution."""

    approval: Approval
    checks: Sequence[PlanCheck]


class PlanUseCase:
    """Plans over one database."""

    def __init__(self, transactions: Transactions, executors: Executors) -> None:
        self._transactions = transactions
        self._executors = executors

    async def plan(self, approval_id: str) -> ExecutionPlan:
        """Return what executing an approval would check now. Raises ApprovalNotFoundError."""
        async with self._transactions.statement() as connection:
            approval = await repository.get(connection, approval_id)
        return ExecutionPlan(
            approval,
            [
                PlanCheck("approved", approval.state is State.APPROVED, f"state is {approval.state}"),
                PlanCheck(
                    "not_expired",
                    not approval.is_past_expiry,
                    f"expires {approval.expire_time:%Y-%m-%dT%H:%M:%SZ}",
                ),
                PlanCheck("action_parsed", approval.operation is not None, approval.parse_error),
                PlanCheck("action_unchanged", is_unchanged(approval), ""),
                *await self._executor_checks(approval),
            ],
        )

    async def _executor_checks(self, approval: Approval) -> Sequence[PlanCheck]:
        operation = approval.operation
        if operation is None or operation.kind is OperationKind.NO_ACTION:
            return []
        found = self._executors.find(operation.kind)
        if found is None:
            return [PlanCheck("executor_present", passed=False, message=f"no executor runs {operation.kind}")]
        name, executor = found
        return [PlanCheck("executor_present", passed=True, message=name), *await executor.plan(operation)]
