"""Orphans: services that outlived their killed owner.

Every service has a mark in its environment that identifies its stack's folder, and its child processes inherit it. A file
with pids would miss a process that was started just before its owner was killed, and pids are reused.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

from flywheel.errors import FlywheelError
from flywheel.stack.service import STOP_SECONDS
from flywheel.system.processes import end_all, folder_identity, is_alive

_MARK = "FLYWHEEL_STACK"
_KILL_SECONDS = 5.0


def mark(data_dir: Path) -> dict[str, str]:
    """Return the variable that marks a process as one of the stack in `data_dir`, which must exist."""
    return {_MARK: folder_identity(data_dir)}


def setting_of(data_dir: Path, variable: str) -> str | None:
    """Return the value of a variable in the environment of a running service of the stack; None when none runs."""
    if not data_dir.is_dir():
        return None
    for process in _marked(folder_identity(data_dir)):
        try:
            if (value := process.environ().get(variable)) is not None:
                return value
        except psutil.Error:
            continue  # it has ended
    return None


def stop_orphans(data_dir: Path) -> None:
    """End the services of an earlier owner of `data_dir`. The caller holds the folder's lock."""
    orphans = list(_marked(folder_identity(data_dir)))
    if not end_all(orphans, ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, _KILL_SECONDS))):
        pids = ", ".join(str(process.pid) for process in orphans if is_alive(process))
        raise FlywheelError(f"services of an earlier run cannot be ended: {pids}")


def _marked(identity: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(_MARK) == identity:
                yield process
        except psutil.Error:
            continue  # it has ended, or belongs to another user
