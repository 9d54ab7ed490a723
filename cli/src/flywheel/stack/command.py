"""`flywheel up`: the stack in the foreground, until a signal stops it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flywheel.lazy import command
from flywheel.stack.ending import end_stack
from flywheel.stack.stack import Stack
from flywheel.system.output import protect_stdout, report
from flywheel.system.signals import StopSignal, raise_stop_signals
from flywheel.system.steps import Steps

app = command()


@app.command()
def up(
    data_dir: Annotated[
        Path, typer.Option(envvar="FLYWHEEL_DATA_DIR", help="Databases and logs; created if missing.")
    ] = Path(".flywheel"),
    incident_listen: Annotated[
        str,
        typer.Option(envvar="INCIDENT_LISTEN", help="Incident service, host:port; port 0 takes a free one."),
    ] = "127.0.0.1:50051",
    approval_listen: Annotated[
        str, typer.Option(envvar="APPROVAL_LISTEN", help="Approval service, likewise.")
    ] = "127.0.0.1:50052",
    gateway_listen: Annotated[
        str, typer.Option(envvar="GATEWAY_LISTEN", help="Metrics gateway (HTTP), likewise.")
    ] = "127.0.0.1:9464",
    intake_listen: Annotated[
        str, typer.Option(envvar="INTAKE_LISTEN", help="Alert intake (HTTP), likewise.")
    ] = "127.0.0.1:9465",
) -> None:
    """Start PostgreSQL and four services: incident, approval, metrics gateway and alert intake; Ctrl-C stops them.

    Prints one line `ready incident=… approval=… gateway=… intake=…` when all are healthy. With INCIDENT_DATABASE_URL or
    APPROVAL_DATABASE_URL set, that service uses that database in place of the embedded one.
    """
    run(
        data_dir,
        incident_listen=incident_listen,
        approval_listen=approval_listen,
        gateway_listen=gateway_listen,
        intake_listen=intake_listen,
    )


def run(
    data_dir: Path, *, incident_listen: str, approval_listen: str, gateway_listen: str, intake_listen: str
) -> None:
    """Start the stack, print `ready` on standard output, and return when a signal has stopped everything.

    A second signal while stopping kills the services. Raises FlywheelError when a part cannot be started or keeps ending.
    """
    protect_stdout()
    steps = Steps()
    stack = Stack(
        data_dir,
        incident_listen=incident_listen,
        approval_listen=approval_listen,
        gateway_listen=gateway_listen,
        intake_listen=intake_listen,
        # From the environment only: every user can read a command line, and these may contain a password.
        incident_database_url=os.environ.get("INCIDENT_DATABASE_URL") or None,
        approval_database_url=os.environ.get("APPROVAL_DATABASE_URL") or None,
        on_step=steps.step,
    )
    raise_stop_signals()
    try:
        with steps.shown():
            stack.start()
        _print_ready(stack)
        stack.watch(report)
    except StopSignal:
        pass
    finally:
        with steps.shown():
            end_stack(stack)


def _print_ready(stack: Stack) -> None:
    addresses = " ".join(
        f"{service.name}={service.address.connect_address}"
        for service in (stack.incident, stack.approval, stack.gateway, stack.intake)
    )
    print(f"ready {addresses}", flush=True)  # noqa: T201 - the result of the command
    if sys.stderr.isatty():
        hint = f"page http://{stack.gateway.address.connect_address} · logs {stack.data_dir / 'log'} · Ctrl-C stops it"
        print(hint, file=sys.stderr, flush=True)  # noqa: T201 - for the user
