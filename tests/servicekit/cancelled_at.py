"""Cancels a coroutine at each of the places where it suspends."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

# More than a transaction of two statements suspends.
SUSPENSIONS = 60


class CancelledAt:
    """Runs a coroutine, and cancels its task when it suspends for the `number`-th time."""

    def __init__(self, work: Coroutine[Any, Any, None], number: int) -> None:
        self._work = work
        self._left = number
        self.ended_before = False

    def __await__(self) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        assert task is not None
        step, argument = self._work.send, None
        while True:
            try:
                waited_for = step(argument)
            except StopIteration:
                self.ended_before = self._left > 0
                return
            self._left -= 1
            if self._left == 0:
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                argument, step = (yield waited_for), self._work.send
            except BaseException as exc:
                argument, step = exc, self._work.throw
