"""`flywheel status`."""

import io
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from awoooi.client import CallError, SyncStatsClient
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from flywheel.lazy import command
from flywheel.operator.failures import FailedCallError, error_object
from flywheel.operator.output.json_form import as_json, json_line
from flywheel.operator.output.printer import Printer
from flywheel.operator.session import Session
from flywheel.operator.verb import verb
from flywheel.operator.views.status import (
    STUCK,
    WAITING,
    approval_lines,
    incident_lines,
    problems,
)

app = command()

_Found = GetFlywheelStatsResponse | FailedCallError


@verb(app)
def status(
    session: Session,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="With --watch, how often.")] = 2.0,
) -> None:
    """Show the loop at a glance: what is open, stuck, to decide, and waiting to be delivered.

    A service that cannot be reached does not hide the other one; the exit status is then 3.
    """
    found = _read(session)
    if not watch:
        _show(session.printer, session.connection.context.name, found)
        failed = [each for each in found.values() if isinstance(each, FailedCallError)]
        if failed:
            raise typer.Exit(failed[0].exit_status)
        return
    if session.printer.is_json or not session.printer.console.is_terminal:
        while True:
            _show(session.printer, session.connection.context.name, found)
            time.sleep(every)
            found = _read(session)
    with Live(console=session.printer.console, auto_refresh=False, screen=True) as screen:
        while True:
            screen.update(_rendered(session, found), refresh=True)
            time.sleep(every)
            found = _read(session)


def _read(session: Session) -> dict[str, _Found]:
    connection = session.connection

    def ask(service: str, client: Callable[[], SyncStatsClient]) -> _Found:
        try:
            return client().get_flywheel_stats(view="FULL")
        except CallError as error:
            return session.failure(error, service=service)

    return {
        "incident": ask("incident", lambda: connection.incident_stats),
        "approval": ask("approval", lambda: connection.approval_stats),
    }


def _show(printer: Printer, context: str, found: dict[str, _Found]) -> None:
    if printer.is_json:
        printer.line(json_line({"context": context, **{name: _object(each) for name, each in found.items()}}))
        return
    printer.fields([("CONTEXT", context)])
    for lines, each in zip((incident_lines, approval_lines), found.values(), strict=True):
        if isinstance(each, FailedCallError):
            printer.note(each.text.removeprefix("flywheel: "))
        else:
            printer.fields(lines(each))
    answers = [each for each in found.values() if not isinstance(each, FailedCallError)]
    for answer in answers:
        if answer.incidents.stuck_incidents:
            printer.line("")
            printer.items(answer.incidents.stuck_incidents, STUCK, limit=0)
        if answer.approvals.pending:
            printer.line("")
            printer.items(answer.approvals.pending, WAITING, limit=0)
    todo = [problem for answer in answers for problem in problems(answer)]
    if len(answers) == len(found) and not todo:
        todo = ["all is well"]
    printer.line("")
    for problem in todo:
        printer.line(problem)


def _rendered(session: Session, found: dict[str, _Found]) -> Text:
    screen = io.StringIO()
    printer = Printer(session.printer.form, screen=screen, width=session.printer.console.width)
    _show(printer, session.connection.context.name, found)
    return Text.from_ansi(screen.getvalue())


def _object(found: _Found) -> dict[str, Any]:
    return error_object(found) if isinstance(found, FailedCallError) else as_json(found)
