"""Throttles background batches while RPCs are in flight."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Self

_CHECK_SECONDS = 0.02


class BackgroundThrottle:
    """Holds a batch back while `busy` returns true, at most `max_wait`.

    Under load the batches grow meanwhile, so that each job costs less.
    """

    def __init__(self, busy: Callable[[], bool], max_wait: timedelta = timedelta(seconds=5)) -> None:
        self._busy = busy
        self._max_wait_seconds = max_wait.total_seconds()

    @classmethod
    def off(cls) -> Self:
        """Return a throttle that never holds a batch back."""
        return cls(lambda: False)

    async def wait(self) -> None:
        """Return when the process is not busy, or when `max_wait` has passed."""
        if not self._busy():
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + self._max_wait_seconds
        # Polled: an event would cost every RPC that ends.
        while self._busy() and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_CHECK_SECONDS)
