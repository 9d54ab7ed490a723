"""Joins concurrent calls into one statement and one commit.

A durable commit costs the disk's flush whatever its size, and a statement costs its round trip. Calls that arrive while
one flush is under way wait for it and go together in the next; a call that finds nothing under way starts at once, so
a single caller pays no delay.

When several callers are about, a flush waits a moment for those who were answered just now and are on their way back: a
server takes in one call at a time, so flushing whoever is there would make every flush one call small and all its time
spent on statements.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from servicekit.database import is_data_error

_log = structlog.get_logger()


Command = TypeVar("Command")
Result = TypeVar("Result")


# A crowd is waited for until nobody came for so long, and at most so many times.
_QUIET_SECONDS = 0.001
_MOST_WAITS = 5
# Who was answered longer ago than this is not on the way back.
_BACK_SECONDS = 0.02
# So many together cost each hardly more than any larger number: half of the crowd can be written while the other half is
# answered.
_LARGE = 16


class JoinedWrites(Generic[Command, Result]):
    """Runs commands through `write`, many at a time.

    `write` takes the commands of one flush and returns, in order, each one's result or the exception that is its own;
    an exception it raises belongs to all of them. After a data error (one bad row) the commands of the flush are tried
    one by one, so that nobody fails for a neighbour.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Command]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_batch: int = 256,
    ) -> None:
        """Flush at most `max_batch` commands together, one batch at a time."""
        self._write = write
        self._max_batch = max_batch
        self._waiting: list[tuple[Command, asyncio.Future[Result]]] = []
        # The loop itself keeps only weak references to its tasks.
        self._flushing: asyncio.Task[None] | None = None
        # How many callers were about at the end of the last flush: answered by it, or waiting.
        self._crowd = 0
        self._crowd_time = 0.0
        # Set while a flush waits for the crowd; done when there is no more to wait for.
        self._gathered: asyncio.Future[None] | None = None

    async def __call__(self, command: Command) -> Result:
        """Run `command` and return its result.

        Raises what `write` gave for it. A caller that is cancelled leaves the flush running: its write may commit,
        and a repeated call then finds it done.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_until_empty())
        elif self._gathered is not None and self._is_gathered():
            _wake(self._gathered)
        return await future

    async def _flush_until_empty(self) -> None:
        # The task's first step comes after every caller that is ready in this turn of the loop has joined.
        try:
            while self._waiting:
                await self._gather()
                batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
                await self._flush([entry for entry in batch if not entry[1].done()])
                self._crowd, self._crowd_time = len(batch) + len(self._waiting), _now()
        finally:
            # Here, and not when the task is seen to have ended: who comes in between must start a flush of their own.
            self._flushing = None

    def _is_gathered(self) -> bool:
        waiting = len(self._waiting)
        return waiting >= min(self._crowd, max(_LARGE, self._crowd // 2), self._max_batch)

    async def _gather(self) -> None:
        if _now() - self._crowd_time > _BACK_SECONDS:
            self._crowd = 0
        loop = asyncio.get_running_loop()
        for _ in range(_MOST_WAITS):
            if self._is_gathered():
                return
            before = len(self._waiting)
            self._gathered = loop.create_future()
            timer = loop.call_later(_QUIET_SECONDS, _wake, self._gathered)
            try:
                await self._gathered
            finally:
                timer.cancel()
                self._gathered = None
            if len(self._waiting) == before:
                return

    async def _flush(self, batch: Sequence[tuple[Command, asyncio.Future[Result]]]) -> None:
        if not batch:
            return
        results: Sequence[Result | Exception]
        try:
            results = await self._write([command for command, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} commands")
        except Exception as exc:
            if is_data_error(exc) and len(batch) > 1:
                _log.warning("joined_write_split", commands=len(batch))
                for entry in batch:
                    await self._flush([entry])
                return
            results = [exc] * len(batch)
        except BaseException:
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), result in zip(batch, results, strict=True):
            _settle(future, result)


def _settle(future: asyncio.Future[Result], result: Result | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
