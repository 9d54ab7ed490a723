"""An incident client of either kind, driven alike: what holds for one has to hold for the other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

from awoooi.client import (
    ApprovalClient,
    AsyncWatch,
    IncidentClient,
    SyncApprovalClient,
    SyncIncidentClient,
    SyncWatch,
)

Kind: TypeAlias = Literal["async", "sync"]
KINDS: Sequence[Kind] = ("async", "sync")
_END = object()


class Driver:
    """Runs a sync client in threads, so that both kinds are awaited."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._is_async = isinstance(client, IncidentClient | ApprovalClient)

    async def call(self, method: str, *args: Any, **fields: Any) -> Any:
        """Make a unary call."""
        function = getattr(self.client, method)
        if self._is_async:
            return await function(*args, **fields)
        return await asyncio.to_thread(function, *args, **fields)

    async def page(self, method: str, *args: Any, **fields: Any) -> Any:
        """Get one page."""
        pager = getattr(self.client, method)(*args, **fields)
        return await (pager.page() if self._is_async else asyncio.to_thread(pager.page))

    async def pages(self, method: str, *args: Any, **fields: Any) -> list[Any]:
        """Get every page."""
        return await self._all(getattr(self.client, method)(*args, **fields).pages())

    async def items(self, method: str, *args: Any, **fields: Any) -> list[Any]:
        """Get every item."""
        return await self._all(getattr(self.client, method)(*args, **fields))

    def watch(self, **fields: Any) -> "WatchDriver":
        """Begin to watch."""
        return WatchDriver(self.client.watch(**fields))

    async def _all(self, iterable: AsyncIterator[Any] | Iterator[Any]) -> list[Any]:
        if isinstance(iterable, AsyncIterator) or hasattr(iterable, "__aiter__"):
            return [item async for item in iterable]
        return await asyncio.to_thread(list, iterable)


class WatchDriver:
    """A watch of either kind."""

    def __init__(self, watch: AsyncWatch[Any] | SyncWatch[Any]) -> None:
        self.watch = watch

    @property
    def resume_token(self) -> str:
        """The latest token."""
        return self.watch.resume_token

    async def next(self) -> Any:
        """The next response. Raises StopAsyncIteration at the end."""
        if isinstance(self.watch, AsyncWatch):
            return await anext(self.watch)
        response = await asyncio.to_thread(next, self.watch, _END)
        if response is _END:
            raise StopAsyncIteration
        return response

    def close(self) -> None:
        """End it."""
        self.watch.close()


@asynccontextmanager
async def incident_client(kind: Kind, target: Any, **settings: Any) -> AsyncIterator[Driver]:
    """A client of the incident service."""
    async with _driven(kind, IncidentClient, SyncIncidentClient, target, **settings) as driver:
        yield driver


@asynccontextmanager
async def approval_client(kind: Kind, target: Any, **settings: Any) -> AsyncIterator[Driver]:
    """A client of the approval service."""
    async with _driven(kind, ApprovalClient, SyncApprovalClient, target, **settings) as driver:
        yield driver


@asynccontextmanager
async def _driven(
    kind: Kind,
    async_client: Callable[..., IncidentClient | ApprovalClient],
    sync_client: Callable[..., SyncIncidentClient | SyncApprovalClient],
    target: Any,
    **settings: Any,
) -> AsyncIterator[Driver]:
    if kind == "async":
        async with async_client(target, **settings) as client:
            yield Driver(client)
    else:
        with sync_client(target, **settings) as client:
            yield Driver(client)
