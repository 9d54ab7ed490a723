"""Group commit: batches concurrent writes into one statement and transaction.

A durable commit costs one flush of the disk, however many rows it has, and a statement costs its round trip. Commands that
arrive while a flush is in progress wait for it and share the next one; a command that finds none in progress is flushed at
once, so a single caller pays no delay.

Under concurrent load a flush waits a moment for the callers that got their result just now and are about to call again: a
server accepts one call at a time, so without this wait every flush would have one command, and all time would be spent on
statements. Two flushes may be in progress, so that one batch is written while the next one gathers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from servicekit.database.errors import is_data_error

_log = structlog.get_logger()


Command = TypeVar("Command")
Result = TypeVar("Result")


# A batch gathers until no command has arrived for this long, at most this many times over.
_QUIET_SECONDS = 0.001
_MAX_WAITS = 10
# A timer may be late by a whole turn of the loop: this many turns let the commands that have arrived meanwhile queue up.
_QUIET_TURNS = 5
# A caller that got its result longer ago than this is not expected to call again.
_RETURN_SECONDS = 0.02
# Beyond this many commands a larger batch hardly lowers the cost of each.
_LARGE_BATCH = 32


class GroupCommit(Generic[Command, Result]):
    """Runs commands through `write`, many at a time.

    `write` takes the commands of one flush and returns, in order, each one's result or its own exception; an exception
    that it raises belongs to all of them. After a data error (one bad row) the commands of the flush are tried one by
    one, so that a bad command fails alone.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Command]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_batch: int = 256,
        max_flushes: int = 2,
    ) -> None:
        """Flush at most `max_batch` commands together and at most `max_flushes` batches at a time."""
        self._write = write
        self._max_batch = max_batch
        self._max_flushes = max_flushes
        self._waiting: list[tuple[Command, asyncio.Future[Result]]] = []
        # The loop itself keeps only weak references to its tasks.
        self._gathering: asyncio.Task[None] | None = None
        self._flushes: set[asyncio.Task[None]] = set()
        self._in_flush = 0
        # Concurrent callers when the last flush ended: those it served, those in the other flush, those waiting.
        self._callers = 0
        self._callers_time = 0.0
        # What `_gathering` waits for: more commands, or the end of a flush.
        self._more: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None

    async def __call__(self, command: Command) -> Result:
        """Run `command` and return its result.

        Raises what `write` gave for it. A caller that is cancelled leaves the flush running: its write may commit,
        and a repeated call then finds it done.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if self._gathering is None:
            self._gathering = asyncio.create_task(self._gather_until_empty())
        elif self._more is not None and self._is_gathered():
            _wake(self._more)
        return await future

    async def _gather_until_empty(self) -> None:
        # The task's first step comes after every caller that is ready in this turn of the loop has queued its command.
        try:
            while self._waiting:
                while len(self._flushes) >= self._max_flushes:
                    self._ended = asyncio.get_running_loop().create_future()
                    await self._ended
                await self._gather()
                batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
                flush = asyncio.create_task(self._flush_and_count(batch))
                self._flushes.add(flush)
                flush.add_done_callback(self._flush_ended)
        finally:
            # Here, not when the task is seen to have ended: a command that arrives in between must start a task of its own.
            self._gathering = None

    def _is_gathered(self) -> bool:
        # Callers that come one after the other share no flush.
        return self._callers <= 1 or len(self._waiting) >= min(_LARGE_BATCH, self._max_batch)

    async def _gather(self) -> None:
        if _now() - self._callers_time > _RETURN_SECONDS:
            self._callers = 0
        for _ in range(_MAX_WAITS):
            if self._is_gathered():
                return
            before = len(self._waiting)
            await self._quiet_or_gathered()
            for _ in range(_QUIET_TURNS):
                if len(self._waiting) > before:
                    break
                await asyncio.sleep(0)
            else:
                return

    async def _quiet_or_gathered(self) -> None:
        loop = asyncio.get_running_loop()
        self._more = loop.create_future()
        timer = loop.call_later(_QUIET_SECONDS, _wake, self._more)
        try:
            await self._more
        finally:
            timer.cancel()
            self._more = None

    async def _flush_and_count(self, batch: Sequence[tuple[Command, asyncio.Future[Result]]]) -> None:
        self._in_flush += len(batch)
        try:
            await self._flush([entry for entry in batch if not entry[1].done()])
        finally:
            self._callers, self._callers_time = self._in_flush + len(self._waiting), _now()
            self._in_flush -= len(batch)

    def _flush_ended(self, flush: asyncio.Task[None]) -> None:
        self._flushes.discard(flush)
        if self._ended is not None:
            _wake(self._ended)

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
                _log.warning("group_commit_split", commands=len(batch))
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
