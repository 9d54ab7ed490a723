"""The dry-run executor: says what it would do, and does nothing."""

from collections.abc import Collection, Mapping, Sequence

from approval.actions.grammar import format_operation
from approval.executors.protocol import PlanCheck, RunContext
from approval.model import Operation, OperationKind


class DryRunExecutor:
    """Runs every operation by saying it. For trying out the loop before trusting it with anything."""

    @property
    def kinds(self) -> Collection[OperationKind]:
        """Every kind that has to be run."""
        return [kind for kind in OperationKind if kind is not OperationKind.NO_ACTION]

    async def plan(self, operation: Operation) -> Sequence[PlanCheck]:
        """One check that always holds: it says what would be done."""
        return [PlanCheck("dry_run", passed=True, message=f"would run: {format_operation(operation)}")]

    async def run(self, operation: Operation, context: RunContext) -> str:
        """Say what would have been done."""
        return f"dry run, nothing was done: {format_operation(operation)}"

    async def close(self) -> None:
        """There is nothing to let go of."""


def make_executor(_environment: Mapping[str, str]) -> DryRunExecutor:
    """Return the executor; it has no settings."""
    return DryRunExecutor()
