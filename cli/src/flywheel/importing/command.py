"""`flywheel import`: both services validate all lines before either writes."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskProgressColumn

from flywheel.errors import FlywheelError
from flywheel.importing.service import ServiceImport, bad_lines_error
from flywheel.importing.spool import spooled
from flywheel.lazy import command
from flywheel.stack.addresses import Address
from flywheel.stack.databases import SERVICES, ServiceDatabases, service_databases
from flywheel.stack.flags import DEFAULT_DATA_DIR, DataDir
from flywheel.stack.orphans import setting_of
from flywheel.system.progress_bars import progress_bars
from flywheel.system.signals import raise_stop_signals
from flywheel.system.steps import Steps

_RECONCILE = "awoooi.approval.v1.ApprovalService/Reconcile"
_UNKNOWN_ADDRESS = "ADDRESS"

app = command()


@app.command()
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", exists=True, dir_okay=False, help="JSON Lines; see docs/import.md."
        ),
    ],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Import incidents and approvals of another system: all lines, or none when one is invalid.

    With INCIDENT_DATABASE_URL or APPROVAL_DATABASE_URL set, that database is written to in place of the local stack's.
    An import is idempotent: repeating it changes nothing.
    """
    run(files, data_dir)


def run(files: Sequence[Path], data_dir: Path) -> None:
    """Import files and print the result and the remaining steps. A signal ends it, and nothing that it started stays.

    Raises FlywheelError, naming every invalid line, with nothing written; or, when the import failed between the two
    databases, with the advice to repeat it.
    """
    raise_stop_signals(once=True)
    with spooled(files) as readable, service_databases(data_dir, Steps()) as databases:
        incidents, approvals = _import(readable, databases)
    _print_result(incidents, approvals, _approval_address(data_dir, databases))


def _approval_address(data_dir: Path, databases: ServiceDatabases) -> str | None:
    """Return the address of the approval service of these databases; None when it is unknown."""
    listen = os.environ.get("APPROVAL_LISTEN")
    if "approval" in databases.embedded:
        listen = setting_of(data_dir, "APPROVAL_LISTEN")
    return str(Address.parse(listen, variable="APPROVAL_LISTEN").connect_address) if listen else None


def _import(files: Mapping[Path, Path], databases: ServiceDatabases) -> Sequence[Mapping[str, int]]:
    bars = progress_bars(Console(stderr=True), label_width=16, amount=TaskProgressColumn())
    # The processes are ended first, so that the threads, which wait for their output, end too.
    with bars, ThreadPoolExecutor(len(SERVICES)) as threads, ExitStack() as processes:
        imports = [
            processes.enter_context(
                ServiceImport(name, files, environment=databases.of(name), migrate=name in databases.embedded)
            )
            for name in SERVICES
        ]
        checks = [
            threads.submit(each.check, _bar(bars, f"check {each.service}s", start=True)) for each in imports
        ]
        writing = [_bar(bars, f"write {each.service}s", start=False) for each in imports]
        are_valid = [check.result() for check in checks]
        if not all(are_valid):
            raise bad_lines_error([bad for each in imports for bad in each.bad_lines])
        # Incidents first: the resolve of an approval needs its incident.
        incident, approval = imports
        written = incident.write(writing[0])
        try:
            return [written, approval.write(writing[1])]
        except FlywheelError as exc:
            raise FlywheelError(
                "the incidents were imported, the approvals were not",
                details="\n".join(filter(None, [exc.message, exc.details])),
                advice="run the same import again: it is idempotent",
            ) from exc


def _bar(bars: Progress, what: str, *, start: bool) -> Callable[[int, int], None]:
    task = bars.add_task(what, start=start, total=None)

    def show(done: int, total: int) -> None:
        bars.start_task(task)
        bars.update(task, completed=done, total=total)

    return show


def _print_result(incidents: Mapping[str, int], approvals: Mapping[str, int], address: str | None) -> None:
    new = incidents["new"] + approvals["new"]
    if new == 0 and incidents["events"] == 0:
        known = incidents["known"] + approvals["known"]
        lines = [f"nothing new: all {known} lines were imported before"]
    else:
        lines = [
            f"{name}: {counts['new']} new, {counts['known']} imported before"
            for name, counts in (("incidents", incidents), ("approvals", approvals))
        ]
    if approvals["unacknowledged"]:
        at = address or _UNKNOWN_ADDRESS
        lines += [
            f"executed, not acknowledged: {approvals['unacknowledged']}. The approval service reconciles them by itself once it runs",
            "(APPROVAL_RECONCILE_EVERY, default 5m), and immediately by one of",
            f"  grpcurl -plaintext -H 'awoooi-actor: operator' {at} {_RECONCILE}",
            f"  buf curl --protocol grpc --http2-prior-knowledge -H 'awoooi-actor: operator' http://{at}/{_RECONCILE}",
        ]
        lines += [] if address else [f"where {at} is the approval service's address"]
    print("\n".join(lines))  # noqa: T201 - the result of the command
