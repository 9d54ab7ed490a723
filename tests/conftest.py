"""What every test may use. The databases are in tests/databases.py."""

import os
import signal

import pytest
from xdist.remote import Producer

from tests.databases import SharedRun
from tests.durations import slowest_files
from tests.scheduling import CrashSafeScheduling

_run = pytest.StashKey[SharedRun]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the run, in the process that starts the workers."""
    # Ignored signals are inherited (`nohup`, `&` in a script); the processes of the tests are ended by these.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    # Inherited, too: a process of the tests would compile its modules at every start, for a third of its time.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not hasattr(config, "workerinput"):
        config.stash[_run] = SharedRun()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> CrashSafeScheduling:
    """Distribute files; see CrashSafeScheduling."""
    return CrashSafeScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: begun last, it would keep one worker busy while the others have nothing left to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None and "/e2e/" not in item.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print where the time went: a reader sees what grows."""
    if files := slowest_files(terminalreporter.stats):
        terminalreporter.section("slowest files")
        for seconds, file in files:
            terminalreporter.write_line(f"{seconds:7.1f}s {file}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run when all workers have finished."""
    if _run in config.stash:
        config.stash[_run].end()
