"""A signal to `flywheel demo` ends it, and nothing that it started stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.flywheel.stack.running_stack import TIMEOUT_SECONDS, eventually, services_of, stand_ins


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the processes whose command line names `folder`."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in argument for argument in process.info["cmdline"] or ())
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_start_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "flywheel", "demo"],
        env={
            **os.environ,
            **stand_ins(tmp_path),
            "STAND_IN_APPROVAL": "never_ready",
            "TMPDIR": str(temporary),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        eventually(
            lambda: any("approval" in services_of(folder) for folder in temporary.glob("flywheel-demo-*"))
        )
        services = [each for folder in temporary.iterdir() for each in services_of(folder).values()]
        process.send_signal(number)
        out, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out) == (128 + number, "")
    assert services
    assert not any(each.is_running() for each in services)
    assert not processes_in(temporary)
    assert list(temporary.iterdir()) == []
