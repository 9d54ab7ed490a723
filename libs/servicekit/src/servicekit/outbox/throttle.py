"""Lets callers go first: background batches wait while the process is busy answering, but never for long."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

_LOOK_SECONDS = 0.02


class BackgroundThrottle:
    """Holds a batch back while `busy` says so, at most `longest`.

    Under load the batches that come together grow meanwhile, so that each job costs less.
    """

    def __init__(self, busy: Callable[[], bool], longest: timedelta) -> None:
        self._busy = busy
        self._longest_seconds = longest.total_seconds()

    async def wait(self) -> None:
        """Return when nobody waits for an answer, or when this has waited long enough."""
        if not self._busy():
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + self._longest_seconds
        # Looked at now and then: an event would cost every call that ends.
        while self._busy() and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
