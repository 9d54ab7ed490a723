"""Executions: the command, its result, what an operation came to, and the execution log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from approval.delivery.model import ResolutionType
from approval.errors import ApprovalError
from approval.model import (
    ALLOWED_FROM,
    Approval,
    ExecutionOutcome,
    Operation,
    OperationKind,
    State,
    Transition,
)

# The states in which an execution ends; Execute is idempotent and returns the stored outcome.
EXECUTED = (State.SUCCEEDED, State.FAILED)


@dataclass(frozen=True, slots=True)
class ExecuteCommand:
    """Execute an approval; with an `etag` only if it is unchanged since it was read.

    With `resume_indeterminate` an INDETERMINATE one is run again, on the caller's responsibility.
    """

    approval_id: str
    etag: str = ""
    resume_indeterminate: bool = False

    @property
    def allowed(self) -> Sequence[State]:
        """The states from which it may start."""
        resumed = (State.INDETERMINATE,) if self.resume_indeterminate else ()
        return (*ALLOWED_FROM[Transition.EXECUTE], *resumed)


@dataclass(frozen=True, slots=True)
class Executed:
    """The approval with its outcome, and whether an earlier call had executed it."""

    approval: Approval
    already_executed: bool


@dataclass(frozen=True, slots=True)
class NeedsExecutor:
    """The approval may be executed, and its operation has to be run by an executor."""

    approval: Approval


@dataclass(frozen=True, slots=True)
class Refused:
    """The approval may not be executed."""

    error: ApprovalError


ExecuteResult: TypeAlias = Executed | NeedsExecutor | Refused


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an execution came to, and how it resolves the incident; None leaves the incident open."""

    state: State
    message: str
    counted_as: ExecutionOutcome
    resolution_type: ResolutionType | None


def outcome_without_executor(approval: Approval) -> Outcome | None:
    """Return the outcome when nothing has to be run; None when an executor has to run the operation.

    A NO_ACTION always succeeds: observing cannot fail. An action that could not be parsed always fails.
    """
    if approval.operation is None:
        return Outcome(
            State.FAILED, f"cannot parse action: {approval.parse_error}", ExecutionOutcome.FAILED, None
        )
    if approval.operation.kind is OperationKind.NO_ACTION:
        return Outcome(State.SUCCEEDED, "observed only", ExecutionOutcome.NOOP, ResolutionType.NO_ACTION)
    return None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: the executor's output, or why it failed."""

    succeeded: bool
    text: str


@dataclass(frozen=True, slots=True)
class LoggedExecution:
    """A row of the execution log: an operation that was run."""

    execution_id: int
    approval_id: str
    incident_id: str
    operation: Operation
    succeeded: bool
    output: str
    error: str
    executor: str
    start_time: datetime
    finish_time: datetime


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """The criteria of a list of executions; one that is empty or None is not applied."""

    approval_id: str = ""
    incident_id: str = ""
    succeeded: bool | None = None
    start_time_start: datetime | None = None
    start_time_end: datetime | None = None
