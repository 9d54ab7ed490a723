"""Joins concurrent calls into one statement and one commit.

A durable commit costs the disk's flush whatever its size, and a statement costs its round trip. Calls that arrive while
one flush is under way wait for it and go together in the next; a call that finds nothing under way starts at once, so
a single caller pays no delay.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from servicekit.database import is_data_error

_log = structlog.get_logger()


Command = TypeVar("Command")
Result = TypeVar("Result")


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
        max_flushes: int = 1,
    ) -> None:
        """Flush at most `max_batch` commands together and at most `max_flushes` batches at a time."""
        self._write = write
        self._max_batch = max_batch
        self._max_flushes = max_flushes
        self._waiting: list[tuple[Command, asyncio.Future[Result]]] = []
        self._flushing = 0
        # The loop itself keeps only weak references to its tasks.
        self._flushes: set[asyncio.Task[None]] = set()

    async def __call__(self, command: Command) -> Result:
        """Run `command` and return its result.

        Raises what `write` gave for it. A caller that is cancelled leaves the flush running: its write may commit,
        and a repeated call then finds it done.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if self._flushing < self._max_flushes:
            self._flushing += 1
            flush = asyncio.create_task(self._flush_until_empty())
            self._flushes.add(flush)
            flush.add_done_callback(self._flushes.discard)
        return await future

    async def _flush_until_empty(self) -> None:
        # The task's first step comes after every caller that is ready in this turn of the loop has joined.
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
                await self._flush([entry for entry in batch if not entry[1].done()])
        finally:
            # Here, and not when the task is seen to have ended: who comes in between must start a flush of their own.
            self._flushing -= 1

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
