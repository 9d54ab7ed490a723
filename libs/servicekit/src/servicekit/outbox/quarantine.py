"""Runs a suspect alone: a job whose holders kept dying, while no other job runs in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Quarantine:
    """Batches run together, or one suspect runs alone.

    A process that dies takes all jobs in its hands with it, guilty or not. A job that runs alone when the process dies is
    the only suspect left.
    """

    def __init__(self) -> None:
        self._batches = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = asyncio.Event()
        self._open.set()
        self._one_suspect = asyncio.Lock()

    async def enter(self) -> None:
        """Wait until a batch may run: no suspect runs, or waits to run, alone. `leave` when it has ended."""
        # Again after each wait: another suspect may have closed it in the same turn of the loop.
        while not self._open.is_set():
            await self._open.wait()
        self._batches += 1
        self._idle.clear()

    def leave(self) -> None:
        """Say that a batch has ended."""
        self._batches -= 1
        if self._batches == 0:
            self._idle.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Run a suspect when the batches in flight have ended; new ones wait until it has ended."""
        async with self._one_suspect:
            self._open.clear()
            try:
                await self._idle.wait()
                yield
            finally:
                self._open.set()
