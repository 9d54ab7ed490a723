"""Ends tasks that take longer than one and the same time, by one timer for all: what begins first is due first.

A timer of its own costs each call more than all it does besides, and nearly no call is ever ended by it.
"""

import asyncio
import collections
from typing import Any


class Limited:
    """A task's work that may take so long."""

    __slots__ = ("due", "expired", "task")

    def __init__(self, task: "asyncio.Task[Any]", due: float) -> None:
        self.task = task
        self.due = due
        self.expired = False


class SharedTimeout:
    """The work that may take so many seconds, of any number of tasks."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # In the order in which it began.
        self._open: collections.OrderedDict[Limited, None] = collections.OrderedDict()
        self._looks = False

    def begin(self) -> Limited:
        """Begin work of the current task, which `end` ends: it is cancelled when that is not called in time."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a timeout belongs to a task")
        limited = Limited(task, loop.time() + self._seconds)
        self._open[limited] = None
        if not self._looks:
            self._looks = True
            loop.call_at(limited.due, self._look)
        return limited

    def end(self, limited: Limited) -> bool:
        """End it. Returns whether a cancellation that the task sees now is this timeout's alone, and clears it then."""
        if not limited.expired:
            self._open.pop(limited, None)
            return False
        return limited.task.uncancel() == 0

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._open and (oldest := next(iter(self._open))).due <= now:
            del self._open[oldest]
            oldest.expired = True
            oldest.task.cancel()
        self._looks = bool(self._open)
        if self._looks:
            loop.call_at(next(iter(self._open)).due, self._look)
