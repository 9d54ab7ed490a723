"""The interface of an executor, exported by `approval.executors`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from approval.model import Operation, OperationKind

# The entry point group of executors; APPROVAL_EXECUTORS lists names of entries.
ENTRY_POINT_GROUP = "awoooi.flywheel.executors"


class OperationFailedError(Exception):
    """The operation failed. The message is stored on the approval and shown: no secrets in it."""


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """One condition of an execution and whether it holds."""

    name: str
    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class RunContext:
    """The circumstances of a run."""

    # The same for every run of this approval: an idempotency key for systems that take one.
    approval_id: str
    incident_id: str
    # How long the run may take; after that it is cancelled and counts as failed.
    timeout: timedelta


class Executor(Protocol):
    """Runs operations of some kinds.

    The process may be killed at any line. The operation is then INDETERMINATE and is not run again unless an operator
    asks for it.
    """

    @property
    def kinds(self) -> Collection[OperationKind]:
        """The kinds of operation that this executor runs."""

    async def plan(self, operation: Operation) -> Sequence[PlanCheck]:
        """Return what `run` would check, and whether it holds now, without changing anything."""

    async def run(self, operation: Operation, context: RunContext) -> str:
        """Run the operation and return its output, for a reader.

        Raises OperationFailedError when it failed; another exception counts as a failure too, and is a bug.
        """

    async def close(self) -> None:
        """Release connections when the process stops."""


class ExecutorFactory(Protocol):
    """The object that an entry point names."""

    def __call__(self, environment: Mapping[str, str]) -> Executor:
        """Make the executor from environment variables. Raises ValueError naming the variable that is wrong."""
