"""Questions to processes that may not be our children, and may be gone at any moment."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

_POLL_SECONDS = 0.005


def folder_identity(folder: Path) -> str:
    """Return a name for `folder` that marks its processes: the same wherever it is moved, another for a copy of it."""
    found = folder.stat()
    return f"{found.st_dev:x}-{found.st_ino:x}"


def is_alive(process: psutil.Process) -> bool:
    """Tell whether the process still runs. A zombie does not: it only waits to be reaped."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> list[str]:
    """Return the command line of a process; empty when it is gone, a zombie, or not ours to see."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def signal_all(processes: Iterable[psutil.Process], signal_number: int) -> None:
    """Send a signal to those of `processes` that are still there; a number given to another process is left alone."""
    for process in processes:
        try:
            process.send_signal(signal_number)
        except psutil.NoSuchProcess:
            continue


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Wait for `condition`, looking every few milliseconds. Returns whether it came true in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
