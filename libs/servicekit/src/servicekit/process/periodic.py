"""Background work that is done again and again as long as the process runs."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from servicekit.database.errors import is_unavailable

_log = structlog.get_logger()


async def run_periodically(
    name: str,
    work: Callable[[], Awaitable[bool]],
    *,
    every: timedelta,
    pause: timedelta = timedelta(0),
    delay_first: bool = False,
) -> None:
    """Run `work` until cancelled: every `every`, and after `pause` as long as it returns that there is more to do.

    With `delay_first` the first run comes after `every`. A run that fails is logged as `<name>_failed`, and the next one
    comes as usual.
    """
    if delay_first:
        await asyncio.sleep(every.total_seconds())
    while True:
        try:
            has_more = await work()
        except Exception as exc:
            _log.warning(f"{name}_failed", error=type(exc).__name__, database_away=is_unavailable(exc))
            has_more = False
        await asyncio.sleep((pause if has_more else every).total_seconds())
