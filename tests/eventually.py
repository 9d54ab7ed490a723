"""Waiting for what tells nobody when it becomes true."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.services import TIMEOUT_SECONDS

Value = TypeVar("Value")


async def eventually(
    question: Callable[[], Awaitable[Value]], accepted: Callable[[Value], bool] = bool
) -> Value:
    """The first answer that is accepted, asking again and again."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not accepted(answer := await question()):  # noqa: ASYNC110 - asked in another process
            await asyncio.sleep(0.02)
        return answer
