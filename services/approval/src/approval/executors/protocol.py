"""What an executor is. A package of your own can have one: give its factory the entry point group below."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from approval.model import Operation, OperationKind, PlanCheck

# The entry point group in which executors are found; an entry's name is what APPROVAL_EXECUTORS names.
ENTRY_POINT_GROUP = "awoooi.flywheel.executors"
# Of what an executor says, so much is kept and shown: bytes of UTF-8.
_MOST_KEPT_BYTES = 8192


class OperationFailedError(Exception):
    """The operation did not work. The message is kept on the approval and shown: no secrets in it."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What an executor is told besides the operation."""

    # The same for every run of this approval: an idempotency key for systems that take one.
    approval_id: str
    incident_id: str
    # How long the run may take; after that it is cancelled and counts as failed.
    timeout: timedelta


class Executor(Protocol):
    """Runs operations of some kinds.

    An executor must cope with being killed at any line: its operation is then INDETERMINATE and never run again by
    itself.
    """

    @property
    def kinds(self) -> Collection[OperationKind]:
        """The kinds of operation that this executor runs."""

    async def plan(self, operation: Operation) -> Sequence[PlanCheck]:
        """Return what `run` would check, and whether it holds now, without changing anything."""

    async def run(self, operation: Operation, context: RunContext) -> str:
        """Run the operation and return what it said, for a reader.

        Raises OperationFailedError when it did not work; another exception counts as failed too, and is a bug.
        """

    async def close(self) -> None:
        """Let go of connections when the process stops."""


class ExecutorFactory(Protocol):
    """What an entry point names."""

    def __call__(self, environment: Mapping[str, str]) -> Executor:
        """Make the executor from environment variables. Raises ValueError naming the variable that is wrong."""


def kept(said: object) -> str:
    """Return what of an executor's words is kept: text that the database takes, cut at a limit.

    The executor may be anybody's: whatever it says, the outcome of its run must not be lost over it.
    """
    whole = str(said).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace")
    return whole[:_MOST_KEPT_BYTES].decode("utf-8", "ignore")
