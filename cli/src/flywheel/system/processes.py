"""Queries and signals to processes that may not be our children, and may end at any moment."""

import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil

_POLL_SECONDS = 0.005


def folder_identity(folder: Path) -> str:
    """Return an identity of `folder` that marks its processes: unchanged by a move, different for a copy."""
    found = folder.stat()
    return f"{found.st_dev:x}-{found.st_ino:x}"


def is_alive(process: psutil.Process) -> bool:
    """Whether the process runs. A zombie does not: it only waits to be reaped."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> list[str]:
    """Return the command line of a process; empty when it is gone, a zombie, or not readable."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def signal_all(processes: Iterable[psutil.Process], signal_number: int) -> None:
    """Send a signal to those of `processes` that still run; a reused pid is not signalled."""
    for process in processes:
        try:
            process.send_signal(signal_number)
        except psutil.NoSuchProcess:
            continue


def end_all(processes: Sequence[psutil.Process], escalation: Iterable[tuple[int, float]]) -> bool:
    """Send signals, each followed by a wait of some seconds, until all have ended. Returns whether they have."""
    for number, seconds in escalation:
        signal_all(processes, number)
        signal_all(processes, signal.SIGCONT)  # a stopped process receives no other signal
        if wait_until(lambda: not any(map(is_alive, processes)), seconds):
            return True
    return False


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Poll `condition` every few milliseconds. Returns whether it became true in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
