"""A costly read that many callers share: at most one runs, and one more is queued for all who called meanwhile."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Generic, TypeVar

from servicekit.database.errors import is_too_long

T = TypeVar("T")


class SharedRead(Generic[T]):
    """Reads as of the call or later: a caller never shares a read that began before its call.

    A read that is slow does not make its callers wait for long: after `slow_after` they get the result before, which says itself
    how old it is. One that is older than `max_age` is not given, nor one from before a failure.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[T]],
        *,
        slow_after: timedelta = timedelta(seconds=1),
        max_age: timedelta = timedelta(minutes=5),
    ) -> None:
        self._read = read
        self._slow_after_seconds = slow_after.total_seconds()
        self._max_age_seconds = max_age.total_seconds()
        # The latest read that was begun or queued, and the one that a new caller shares: it has not begun.
        self._last: asyncio.Task[T] | None = None
        self._queued: asyncio.Task[T] | None = None
        self._result: tuple[T, float] | None = None

    async def get(self) -> T:
        """Return the result of a read. Raises what the read raises, when there is no result to give instead."""
        if self._queued is None:
            self._queued = self._last = asyncio.create_task(self._run(self._last))
            # A failure is every caller's; that there is none left to see it is no news.
            self._last.add_done_callback(lambda task: task.cancelled() or task.exception())
        task = self._queued
        await asyncio.wait({task}, timeout=self._slow_after_seconds)
        if not task.done() and (result := self._recent()) is not None:
            return result[0]
        try:
            return await asyncio.shield(task)
        except Exception as exc:
            if is_too_long(exc) and (result := self._recent()) is not None:
                return result[0]
            raise

    def _recent(self) -> tuple[T, float] | None:
        if self._result is None or time.monotonic() - self._result[1] > self._max_age_seconds:
            return None
        return self._result

    async def _run(self, before: "asyncio.Task[T] | None") -> T:
        if before is not None:
            await asyncio.wait({before})
        # Who calls from here on shares the next one.
        self._queued = None
        try:
            result = await self._read()
        except Exception as exc:
            if not is_too_long(exc):
                self._result = None
            raise
        self._result = (result, time.monotonic())
        return result
