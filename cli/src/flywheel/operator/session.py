"""What a command of an operator works with: the services, the output, and the confirmation by a person."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from awoooi.client import CallError, SyncApprovalClient, SyncIncidentClient
from flywheel.errors import FlywheelError
from flywheel.operator.confirmation import confirm, refuse_without_terminal
from flywheel.operator.connection import Connection
from flywheel.operator.failures import FailedCallError, FlagOf
from flywheel.operator.output.printer import Printer
from flywheel.operator.output.view import View

Shown = TypeVar("Shown", bound=Message)


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a command."""

    connection: Connection
    printer: Printer
    assumes_yes: bool
    flag_of: FlagOf

    @property
    def incidents(self) -> SyncIncidentClient:
        """The incident service."""
        return self.connection.incidents

    @property
    def approvals(self) -> SyncApprovalClient:
        """The approval service."""
        return self.connection.approvals

    def failure(self, error: CallError, *, subject: str = "", service: str = "") -> FailedCallError:
        """Return a failed call as the error that ends the command; `subject` is the id that it was about."""
        return FailedCallError(error, self.connection.context, self.flag_of, subject=subject, service=service)

    def confirmed(self, question: str, read: Callable[[], Shown], view: View[Shown]) -> Shown | None:
        """Show a resource and return it when the person agrees; None with --yes, for which nothing is read.

        A change that is made with the etag of what was shown changes nothing else. Raises FlywheelError when the person
        does not agree, or there is no terminal.
        """
        if self.assumes_yes:
            return None
        refuse_without_terminal()
        shown = read()
        self.printer.note(view.summary(shown))
        confirm(question)
        return shown

    def confirm(self, question: str) -> None:
        """Return when the person agrees, or with --yes. Raises FlywheelError."""
        if not self.assumes_yes:
            confirm(question)

    def each(self, arguments: Sequence[str], act: Callable[[str], None]) -> None:
        """Act on one after the other, and on the next when one fails. Raises FlywheelError when any did."""
        identities = list(_identities(arguments))
        failures: list[FailedCallError] = []
        for identity in identities:
            try:
                act(identity)
            except CallError as error:
                failures.append(self.failure(error, subject=identity))
                if len(identities) > 1:
                    self.printer.note(failures[-1].message)
        if not failures:
            return
        if len(identities) == 1:
            raise failures[0]
        raise FlywheelError(
            f"{len(failures)} of {len(identities)} failed", exit_status=failures[0].exit_status
        )


def _identities(arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        yield from sys.stdin.read().split() if argument == "-" else [argument]
