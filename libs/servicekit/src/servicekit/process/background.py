"""Work that runs as long as the process serves."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

_log = structlog.get_logger()


class BackgroundEndedError(Exception):
    """A background task has ended although the process has not been stopped."""


async def run_until_stopped(
    drain: Callable[[], Awaitable[None]], stop: asyncio.Event, background: Mapping[str, Awaitable[None]]
) -> None:
    """Run the background work until `stop` is set, then drain: the server by `drain`, background work after it.

    Raises BackgroundEndedError when a background task ends early: half a service is worse than a restart.
    """
    tasks = {name: asyncio.ensure_future(work) for name, work in background.items()}
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait([stopped, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
    ended = sorted(name for name, task in tasks.items() if task.done())
    _log.info("stopping", ended=ended)
    try:
        await drain()
    finally:
        # Background work last: jobs that the finished calls enqueued can still be tried, and leases are released.
        for task in (stopped, *tasks.values()):
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    _log.info("stopped")
    if ended:
        raise BackgroundEndedError(", ".join(ended)) from tasks[ended[0]].exception()
