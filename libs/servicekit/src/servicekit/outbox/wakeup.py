"""LISTEN/NOTIFY subscriber; reconnects."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.engine import autocommit
from servicekit.database.errors import is_unavailable

_log = structlog.get_logger()
_RECONNECT_SECONDS = 1.0
_PROBE_SECONDS = 5.0
_PROBE = text("SELECT 1")


async def listen(engine: AsyncEngine, channel: str, on_notify: Callable[[], None]) -> None:
    """Call `on_notify` at each notification on `channel` until cancelled.

    Also called after each (re)connect, for what was notified meanwhile. Holds one connection of the engine's pool. It is
    probed, since a listener waits for ever on a connection whose peer has vanished.
    """
    while True:
        try:
            async with autocommit(engine).connect() as connection:
                driver = (await connection.get_raw_connection()).driver_connection
                if driver is None:
                    raise ConnectionError("the pool gave a connection without a driver connection")
                lost = asyncio.Event()
                driver.add_termination_listener(lambda _driver, lost=lost: lost.set())
                await driver.add_listener(channel, lambda *_args: on_notify())
                on_notify()
                try:
                    while not await _is_set(lost, within=_PROBE_SECONDS):
                        await connection.execute(_PROBE)
                finally:
                    # A connection that still listens must not go back to the pool.
                    await connection.invalidate()
        except Exception as exc:
            if not isinstance(exc, TimeoutError) and not is_unavailable(exc):
                _log.error("outbox_listen_failed", channel=channel, exc_info=exc)
        await asyncio.sleep(_RECONNECT_SECONDS)


async def _is_set(flag: asyncio.Event, *, within: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            await flag.wait()
    return flag.is_set()
