"""Services that outlived a killed owner.

Every service has a mark in its environment that names its stack's folder, and so has whatever it starts. A file with
pids would not know a process that was started the instant its owner was killed, and numbers are given out again.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

from flywheel.errors import FlywheelError
from flywheel.system.processes import folder_identity, is_alive, signal_all, wait_until

_MARK = "FLYWHEEL_STACK"
_GRACE_SECONDS = 5.0
_KILL_SECONDS = 5.0


def mark(data_dir: Path) -> dict[str, str]:
    """Return the variable that marks a process as one of the stack in `data_dir`, which must be there."""
    return {_MARK: folder_identity(data_dir)}


def setting_of(data_dir: Path, variable: str) -> str | None:
    """Return what a running service of the stack in `data_dir` has in its environment; None when none runs."""
    if not data_dir.is_dir():
        return None
    for process in _marked(folder_identity(data_dir)):
        try:
            if (value := process.environ().get(variable)) is not None:
                return value
        except psutil.Error:
            continue  # gone meanwhile
    return None


def stop_leftovers(data_dir: Path) -> None:
    """End the services that an earlier owner of `data_dir` left running. The caller holds the folder's lock."""
    left = list(_marked(folder_identity(data_dir)))
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        signal_all(left, number)
        signal_all(left, signal.SIGCONT)  # a process that was halted hears nothing else
        if wait_until(lambda: not any(map(is_alive, left)), seconds):
            return
    pids = ", ".join(str(process.pid) for process in left if is_alive(process))
    raise FlywheelError(f"services of an earlier run cannot be ended: {pids}")


def _marked(identity: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(_MARK) == identity:
                yield process
        except psutil.Error:
            continue  # gone, or of another user
