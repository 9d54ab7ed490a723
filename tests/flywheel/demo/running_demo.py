"""`flywheel demo` in a process, with a folder of its own for temporary files."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.flywheel.stack.running_stack import services_of


@contextmanager
def running_demo(
    temporary: Path, arguments: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run `flywheel demo`, whose temporary files are in a folder."""
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "flywheel", "demo", *arguments],
        env={**os.environ, **environment, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def started_in(temporary: Path) -> dict[str, psutil.Process]:
    """The processes of the stack in the demo's folder."""
    folders = temporary.glob("flywheel-demo-*")
    return {name: each for folder in folders for name, each in services_of(folder).items()}


def nothing_is_left(temporary: Path, started: Mapping[str, psutil.Process]) -> bool:
    """Whether these processes have ended, no other names the folder, and the folder is empty."""
    named = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(temporary) in argument for argument in process.info["cmdline"] or ())
    ]
    return (
        not any(each.is_running() for each in started.values()) and not named and not any(temporary.iterdir())
    )
