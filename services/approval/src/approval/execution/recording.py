"""What has happened is recorded, however long the database is unavailable."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from servicekit.database.errors import is_unavailable

Recorded = TypeVar("Recorded")

_RETRY_SECONDS = 1.0


async def until_recorded(record: Callable[[], Awaitable[Recorded]]) -> Recorded:
    """Return what `record` returns; it is retried while the database is unavailable. Raises what else it raises."""
    while True:
        try:
            return await record()
        except Exception as exc:
            if not is_unavailable(exc):
                raise
        await asyncio.sleep(_RETRY_SECONDS)
