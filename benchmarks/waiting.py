"""Waiting for what only a database can tell: polled, and not for ever."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.errors import BenchmarkError
from flywheel.system.log_files import tail

_POLL_SECONDS = 0.02


async def until_not(pending: Callable[[], Awaitable[bool]], what: str, *, within: float, log: Path) -> float:
    """Wait while `pending`, and return the seconds it took.

    Raises BenchmarkError, with `what` is not done and the end of the server's `log`, when it does not end.
    """
    started = time.perf_counter()
    while await pending():
        if time.perf_counter() - started > within:
            raise BenchmarkError(
                f"{what} not done after {within:.0f} s; the server's log ends with:\n{tail(log)}"
            )
        await asyncio.sleep(_POLL_SECONDS)
    return time.perf_counter() - started
