"""The dry-run executor: reports what it would do, and does nothing."""

from collections.abc import Collection, Mapping, Sequence

from approval.actions.grammar import format_operation
from approval.executors.protocol import PlanCheck, RunContext
from approval.model import Operation, OperationKind


class DryRunExecutor:
    """Runs every operation by reporting it. For trying out the loop before it may change anything."""

    @property
    def kinds(self) -> Collection[OperationKind]:
        """Every kind that has to be run."""
        return [kind for kind in OperationKind if kind is not OperationKind.NO_ACTION]

    async def plan(self, operation: Operation) -> Sequence[PlanCheck]:
        """One check that always passes: it reports what would be done."""
        return [PlanCheck("dry_run", passed=True, message=f"would run: {format_operation(operation)}")]

    async def run(self, operation: Operation, context: RunContext) -> str:
        """Report what would have been done."""
        return f"dry run, nothing was done: {format_operation(operation)}"

    async def close(self) -> None:
        """There is nothing to release."""


def make_executor(_environment: Mapping[str, str]) -> DryRunExecutor:
    """Return the executor; it has no settings."""
    return DryRunExecutor()
