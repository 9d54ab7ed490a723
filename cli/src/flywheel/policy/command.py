"""`flywheel policy check` and `replay`, which the approval service's own commands do."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from flywheel.lazy import group
from flywheel.stack.databases import service_databases
from flywheel.stack.flags import DEFAULT_DATA_DIR, DataDir
from flywheel.system.signals import raise_stop_signals
from flywheel.system.steps import Steps

app = group("A policy file before it takes effect; see docs/policy.md.")

_PolicyFile = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A policy file.")
]


@app.command("check")
def check_(
    file: _PolicyFile,
    channels: Annotated[
        list[str] | None,
        typer.Option("--channel", help="A channel that routes may name; may be repeated. None: not checked."),
    ] = None,
) -> None:
    """Say what is wrong with a policy file, one line each, or what is in it."""
    raise typer.Exit(check(file, channels or ()))


@app.command("replay")
def replay_(
    file: _PolicyFile,
    since: Annotated[
        str,
        typer.Option(help="Proposals since then: a duration, such as 30d, or a time, such as 2026-05-01."),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Say what a policy file would have decided about past proposals, and how that differs from what was decided.

    With APPROVAL_DATABASE_URL set, that database is read in place of the local stack's. Nothing is changed.
    """
    raise typer.Exit(replay(file, data_dir, since=since, as_json=json))


def check(file: Path, channels: Sequence[str]) -> int:
    """Print what is wrong with a policy file on standard error, or what is in it; returns the exit code."""
    return _run(
        "policy-check", str(file), *(f"--channel={name}" for name in channels), environment=os.environ
    )


def replay(file: Path, data_dir: Path, *, since: str, as_json: bool) -> int:
    """Print what a policy file would have decided about past proposals; returns the exit code. Raises FlywheelError."""
    raise_stop_signals(once=True)
    options = [f"--since={since}", *(["--json"] if as_json else [])]
    with service_databases(data_dir, Steps(), services=("approval",)) as databases:
        return _run("policy-replay", str(file), *options, environment=databases.of("approval"))


def _run(command: str, *arguments: str, environment: Mapping[str, str]) -> int:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "approval", command, *arguments],
        env=environment,
        # A Ctrl-C in the terminal must reach the command only, which ends this process in order.
        start_new_session=True,
    )
    try:
        return process.wait()
    finally:
        process.kill()
        process.wait()
