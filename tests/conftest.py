"""What every test may use. The databases are in tests/databases.py."""

import gc
import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests.databases import SharedRun
from tests.durations import slowest_files
from tests.scheduling import CrashSafeScheduling

_run = pytest.StashKey[SharedRun]()
# Folders of tests, by the time that their files take.
_LONGEST_FIRST = ("/e2e/", "/flywheel/", "/prometheus/", "/integration/")


def pytest_configure(config: pytest.Config) -> None:
    """Begin the run, in the process that starts the workers."""
    # Ignored signals are inherited (`nohup`, `&` in a script); the processes of the tests are ended by these.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    # Inherited, too: a process of the tests would compile its modules at every start, for a third of its time.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # A property holds on a slow machine, too.
    settings.register_profile("any_speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any_speed")
    if not hasattr(config, "workerinput"):
        config.stash[_run] = SharedRun()


def pytest_xdist_auto_num_workers() -> int | None:
    """Three workers on two cores: half of the time a test waits, for a timer or for a process that starts."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    cores = len(os.sched_getaffinity(0))
    return cores + (cores + 1) // 2


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> CrashSafeScheduling:
    """Distribute files; see CrashSafeScheduling."""
    return CrashSafeScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without looking for garbage, and never look through the million objects of 7,000 tests again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: begun last, it would keep one worker busy while the others have nothing left to do.

    Last are the unit tests, whose files take a second.
    """

    def rank(item: pytest.Item) -> int:
        if item.get_closest_marker("slow") is not None:
            return 0
        ranks = enumerate(_LONGEST_FIRST, start=1)
        return next((number for number, folder in ranks if folder in item.nodeid), len(_LONGEST_FIRST) + 1)

    items.sort(key=rank)


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
