"""Background work that is done again and again as long as the process runs."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from servicekit.database.failure_log import FailureLog


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
    failures = FailureLog(f"{name}_failed")
    if delay_first:
        await asyncio.sleep(every.total_seconds())
    while True:
        try:
            has_more = await work()
        except Exception as exc:
            failures.failed(exc)
            has_more = False
        else:
            failures.succeeded()
        await asyncio.sleep((pause if has_more else every).total_seconds())
