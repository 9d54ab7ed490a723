"""`flywheel policy check` and `replay`, which the approval service's own commands do."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flywheel.stack.databases import service_databases
from flywheel.system.signals import raise_stop_signals
from flywheel.system.steps import Steps


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
