"""Polling a condition that sends no notification."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.services import TIMEOUT_SECONDS

Value = TypeVar("Value")


async def eventually(read: Callable[[], Awaitable[Value]], accepted: Callable[[Value], bool] = bool) -> Value:
    """The first value that is accepted, read again and again."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not accepted(found := await read()):  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.02)
        return found
