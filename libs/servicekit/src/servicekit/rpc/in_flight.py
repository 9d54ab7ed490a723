"""Counts the unary RPCs in flight."""

import asyncio
import time

_RECENT_SECONDS = 0.1


class InFlightCalls:
    """How many unary RPCs this process serves now and served just now."""

    def __init__(self) -> None:
        self._calls = 0
        # The most calls in flight lately, and when.
        self._peak = 0
        self._peak_time = 0.0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        """Count a call that begins."""
        self._calls += 1
        if self._calls >= self._peak:
            self._peak, self._peak_time = self._calls, time.monotonic()
        self._idle.clear()

    def end(self) -> None:
        """Count a call that has ended."""
        self._calls -= 1
        if self._calls == 0:
            self._idle.set()

    def was_busy(self, calls: int) -> bool:
        """Return whether `calls` calls were in flight together within the last tenth of a second.

        Not only now: the calls of a group commit end together, and their callers' next ones are on the way.
        """
        now = time.monotonic()
        if now - self._peak_time > _RECENT_SECONDS:
            self._peak, self._peak_time = self._calls, now
        return self._peak >= calls

    async def wait_idle(self) -> None:
        """Return when no call is in flight."""
        await self._idle.wait()
