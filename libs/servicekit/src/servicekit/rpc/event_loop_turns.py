"""Turns on the event loop: a heavy read makes its response in slices, and other calls go first.

A call such as Create needs the event loop some ten times, for its statements and its response. A page of 3 MiB holds it for 20 ms:
in slices without a rule, each of those ten times would wait for a slice of every page that is being made. So slices take turns,
one at a time; and while other calls are in flight, one of them ends between two slices.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

# The longest that a slice holds the event loop.
SLICE_SECONDS = 0.001
# The longest that a slice waits for the end of another call: one may wait for a lock in the database.
_LONGEST_WAIT_SECONDS = 0.005


class Turns:
    """The turns of one server."""

    def __init__(self, *, longest_wait_seconds: float = _LONGEST_WAIT_SECONDS) -> None:
        self._longest_wait_seconds = longest_wait_seconds
        # In the order in which they came: pages that are being made take turns among themselves.
        self._slices = asyncio.Lock()
        # Calls in flight that are no heavy reads.
        self._others = 0
        self._next_end: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """Note a call that is no heavy read."""
        self._others += 1

    def end(self) -> None:
        """Note that it has ended."""
        self._others -= 1
        if self._next_end is not None and not self._next_end.done():
            self._next_end.set_result(None)

    @asynccontextmanager
    async def slice(self, *, is_first: bool) -> AsyncIterator[float]:
        """Wait for a turn; the block ends at about the time that it gets. The first slice, all of most pages, waits for nothing."""
        if is_first:
            yield time.perf_counter() + SLICE_SECONDS
            return
        async with self._slices:
            await self._give_way()
            yield time.perf_counter() + SLICE_SECONDS

    async def _give_way(self) -> None:
        if not self._others:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        ended = self._next_end = loop.create_future()
        timer = loop.call_later(self._longest_wait_seconds, _release, ended)
        try:
            await ended
        finally:
            timer.cancel()
            self._next_end = None


def _release(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


_turns: ContextVar[Turns | None] = ContextVar("turns", default=None)


def set_turns(turns: Turns) -> None:
    """Set the turns that the current call, a heavy read, takes part in."""
    _turns.set(turns)


def current_turns() -> Turns:
    """Return the turns of the current call."""
    return _turns.get() or Turns()
