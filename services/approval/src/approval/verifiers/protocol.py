"""The interface of a verifier, exported by `approval.verifiers`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from approval.model import Operation

# The entry point group of verifiers; APPROVAL_VERIFIER is the name of an entry.
ENTRY_POINT_GROUP = "awoooi.flywheel.verifiers"
# The label of an incident that has the expression of the verifier prometheus.
EXPRESSION_LABEL = "recovery_expression"


class CannotTellError(Exception):
    """It is undetermined whether the problem is gone. The message is stored on the approval and shown: no secrets in it."""


@dataclass(frozen=True, slots=True)
class Repair:
    """An operation that worked, and the incident that it was for."""

    approval_id: str
    incident_id: str
    operation: Operation
    # When the operation ended, by the database's clock.
    finish_time: datetime
    # What the incident was opened with.
    fingerprint: str
    source: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Look:
    """What a verifier saw: whether the problem is gone, and what it saw, for a reader."""

    gone: bool
    message: str


class Verifier(Protocol):
    """Looks whether the problem of a repair is gone.

    One look proves nothing: the service looks again, until the problem was gone at several looks in a row. Any process may
    look, several at a time, and any of them may be killed at any line: keep nothing between looks.
    """

    async def look(self, repair: Repair) -> Look:
        """Look once. Changes nothing.

        Raises CannotTellError when it is undetermined, never "gone" for lack of an answer; another exception counts the same,
        and is a bug. A look that takes longer than APPROVAL_VERIFIER_TIMEOUT is cancelled.
        """

    async def close(self) -> None:
        """Release connections when the process stops."""


class VerifierFactory(Protocol):
    """The object that an entry point names."""

    def __call__(self, environment: Mapping[str, str]) -> Verifier:
        """Make the verifier from environment variables. Raises ValueError naming the variable that is wrong."""
