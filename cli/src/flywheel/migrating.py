"""`flywheel migrate`."""

import subprocess
import sys
from typing import Annotated

import typer

from flywheel.errors import FlywheelError
from flywheel.lazy import command
from flywheel.stack.databases import SERVICES, service_databases
from flywheel.stack.flags import DEFAULT_DATA_DIR, DataDir
from flywheel.system.signals import raise_stop_signals
from flywheel.system.steps import Steps

app = command()

_MAX_OUTPUT = 4_000


@app.command()
def migrate(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    services: Annotated[
        list[str] | None, typer.Option("--service", help="incident or approval; both if not given.")
    ] = None,
) -> None:
    """Bring the databases to the newest revision, and exit. Idempotent; services may run meanwhile.

    With INCIDENT_DATABASE_URL or APPROVAL_DATABASE_URL set, that database is migrated in place of the local stack's.
    """
    raise_stop_signals(once=True)
    if unknown := sorted({*(services or ())} - {*SERVICES}):
        raise FlywheelError(
            f"there is no service {', '.join(unknown)}",
            advice=f"there are {', '.join(SERVICES)}",
            exit_status=2,
        )
    with service_databases(data_dir, Steps()) as databases:
        for service in services or SERVICES:
            # In a process of its own, with the settings of its own.
            done = subprocess.run(
                [sys.executable, "-P", "-m", service, "migrate"],
                env=databases.of(service),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise FlywheelError(
                    f"the database of the {service} service was not migrated",
                    details=done.stderr[-_MAX_OUTPUT:].strip(),
                )
            print(f"{service}: up to date", flush=True)  # noqa: T201 - the result of the command
