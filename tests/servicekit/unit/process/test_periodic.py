"""Background loops: periodic, at once while there is more to do, and never ended by a failure."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import pytest
from asyncpg.exceptions import InterfaceError, TooManyConnectionsError
from structlog.testing import capture_logs

from servicekit.database.errors import DatabaseUnavailableError
from servicekit.process.periodic import run_periodically

NEVER = timedelta(hours=1)
AT_ONCE = timedelta(0)


class Work:
    """Returns or raises one outcome a run, and ends the test with the last."""

    def __init__(self, *outcomes: bool | Exception) -> None:
        self._outcomes = list(outcomes)
        self.done = asyncio.Event()

    async def __call__(self) -> bool:
        if not self._outcomes:
            await asyncio.Event().wait()
        outcome = self._outcomes.pop(0)
        if not self._outcomes:
            self.done.set()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def finish(work: Work, loop: Awaitable[None]) -> None:
    """Run the loop until the work's last outcome; it must not end by itself."""
    task = asyncio.ensure_future(loop)
    async with asyncio.timeout(20):
        await work.done.wait()
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_has_more_to_do_runs_again_without_waiting_for_its_period() -> None:
    work = Work(True, True, False)
    await finish(work, run_periodically("tidying", work, every=NEVER))


async def test_a_failed_run_is_logged_and_the_next_one_comes() -> None:
    work = Work(KeyError("x"), KeyError("x"), False)
    with capture_logs() as logs:
        await finish(work, run_periodically("tidying", work, every=AT_ONCE))
    line = {
        "event": "tidying_failed",
        "log_level": "warning",
        "error": "KeyError",
        "database_away": False,
    }
    assert logs == [line, line]


async def test_why_the_database_fails_a_run_is_logged_once_for_each_reason_until_a_run_succeeds() -> None:
    silent, full = InterfaceError("connection is closed"), TooManyConnectionsError("sorry")
    work = Work(silent, silent, full, silent, full, False, silent, False)
    with capture_logs() as logs:
        await finish(work, run_periodically("tidying", work, every=AT_ONCE))
    assert [(line["error"], line["reason"], line["database_away"]) for line in logs] == [
        ("InterfaceError", "connection is closed", True),
        ("TooManyConnectionsError", "sorry", True),
        ("InterfaceError", "connection is closed", True),
    ]


async def test_that_the_database_cannot_be_reached_is_left_to_the_health_check_to_log() -> None:
    work = Work(DatabaseUnavailableError(), False)
    with capture_logs() as logs:
        await finish(work, run_periodically("tidying", work, every=AT_ONCE))
    assert logs == []


async def test_the_first_run_can_be_delayed_by_the_period() -> None:
    runs = 0

    async def work() -> bool:
        nonlocal runs
        runs += 1
        return False

    async def some_turns(delay_first: bool) -> int:
        task = asyncio.create_task(run_periodically("tidying", work, every=NEVER, delay_first=delay_first))
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        return runs

    assert await some_turns(delay_first=True) == 0
    assert await some_turns(delay_first=False) == 1
