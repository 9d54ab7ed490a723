"""The `flywheel` command: a table of the commands, each of which is in a package of its own and imported when it runs."""

import io
import os
import signal
import sys
from typing import Annotated

import typer
from typer.completion import completion_init  # type: ignore[attr-defined] # it is not marked as exported

from flywheel.errors import FlywheelError
from flywheel.lazy import Module, group_with
from flywheel.system.output import protect_stderr
from flywheel.system.signals import StopSignal

_COMMANDS = {
    "up": Module(
        "flywheel.stack.command",
        "Start PostgreSQL and four services: incident, approval, metrics gateway and alert intake; Ctrl-C stops them.",
    ),
    "demo": Module(
        "flywheel.demo.command",
        "Replay the outage with 566 stuck incidents on a temporary stack: about a minute, nothing is kept.",
    ),
    "import": Module(
        "flywheel.importing.command",
        "Import incidents and approvals of another system: all lines, or none when one is invalid.",
    ),
    "doctor": Module(
        "flywheel.doctor.command",
        "Check a deployment, and say what to do about what is wrong; see docs/doctor.md.",
    ),
    "certs": Module(
        "flywheel.certificates.command",
        "Make an authority and certificates for the services, for a trial.",
    ),
    "token": Module(
        "flywheel.tokens.command",
        "Bearer tokens for people and jobs without an identity provider; see docs/security.md.",
    ),
    "audit": Module(
        "flywheel.audit.command",
        "Export the audit trails, and prove that an export is unchanged; see docs/audit.md.",
    ),
    "policy": Module("flywheel.policy.command", "A policy file before it takes effect; see docs/policy.md."),
    "status": Module("flywheel.operator.verbs.status", "Show the loop at a glance."),
    "incident": Module("flywheel.operator.verbs.incident", "Open, look at and resolve incidents."),
    "approval": Module(
        "flywheel.operator.verbs.approval", "Propose actions, decide about them and execute them."
    ),
    "delivery": Module(
        "flywheel.operator.verbs.delivery", "What approvals have caused, and what waits of it."
    ),
    "effect": Module(
        "flywheel.operator.verbs.effect", "The side effects of resolutions, and what waits of them."
    ),
    "knowledge": Module("flywheel.operator.verbs.knowledge", "What resolved similar incidents."),
    "reconcile": Module("flywheel.operator.verbs.reconcile", "Queue the resolves that were lost."),
    "export": Module(
        "flywheel.operator.verbs.export", "Write incidents and approvals for `flywheel import`."
    ),
    "migrate": Module("flywheel.migrating", "Bring the databases to the newest revision."),
    "completion": Module("flywheel.completion", "Print the completion script of a shell."),
    "context": Module("flywheel.operator.verbs.context", "The deployments that these commands are for."),
}

app = typer.Typer(
    help="Incidents, approvals, and the loop that closes them: on this machine, and on any deployment.",
    cls=group_with(_COMMANDS),
    no_args_is_help=True,
    # Plain lines: a pipe, a log and a narrow terminal show them as they are.
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - only when it is wanted

        print(f"flywheel {version('awoooi-flywheel')}")  # noqa: T201 - the requested output
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command. An expected error is printed in a few lines, with advice; the exit status is its own."""
    protect_stderr()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal in Latin-1 has no ✓.
        sys.stdout.reconfigure(errors="replace")
    try:
        if "_FLYWHEEL_COMPLETE" in os.environ:
            completion_init()
        app(prog_name="flywheel")
    except FlywheelError as exc:
        print(exc.text, file=sys.stderr)  # noqa: T201 - for the user
        sys.exit(exc.exit_status)
    except BrokenPipeError:
        # The reader of standard output has ended, as `head` does. What is still in the buffer would fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(128 + signal.SIGPIPE)
    except StopSignal as exc:
        sys.exit(128 + exc.number)  # as a shell shows it
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
