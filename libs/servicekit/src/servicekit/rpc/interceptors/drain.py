"""Refuses new calls while the server drains, and knows when those in flight have ended."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc

from servicekit.rpc.interceptors.chain import Context, StreamBehavior, UnaryBehavior
from servicekit.rpc.status import RpcError, RpcStatus

_RECENT_SECONDS = 0.1
_DRAINING = RpcStatus(
    grpc.StatusCode.UNAVAILABLE,
    "the server is stopping, try another one",
    "DRAINING",
    retry_after=timedelta(0),
)


class DrainLayer:
    """Counts calls in flight; once draining, answers new ones UNAVAILABLE.

    grpc.aio's own stop answers calls that it has received and not yet handed over with CANCELLED, which no channel tries
    again.
    """

    def __init__(self) -> None:
        self._draining = False
        self._in_flight = 0
        # The most calls in flight lately, and when.
        self._peak = 0
        self._peak_time = 0.0
        self._idle = asyncio.Event()
        self._idle.set()

    def was_busy(self, calls: int) -> bool:
        """Tell whether so many unary calls were in flight together within the last tenth of a second.

        Not just now: joined calls end together, and the next ones are on their way.
        """
        now = time.monotonic()
        if now - self._peak_time > _RECENT_SECONDS:
            self._peak, self._peak_time = self._in_flight, now
        return self._peak >= calls

    async def drain(self) -> None:
        """Refuse new calls from now on, and return when none is in flight."""
        self._draining = True
        await self._idle.wait()

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Count the call, or refuse it."""

        async def behavior(request: Any, context: Context) -> Any:
            self._begin()
            try:
                return await inner(request, context)
            finally:
                self._end()

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Refuse the stream when draining; one that runs is ended by its own use case, and not waited for here."""

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            if self._draining:
                raise RpcError(_DRAINING)
            async for response in inner(request, context):
                yield response

        return behavior

    def _begin(self) -> None:
        if self._draining:
            raise RpcError(_DRAINING)
        self._in_flight += 1
        if self._in_flight >= self._peak:
            self._peak, self._peak_time = self._in_flight, time.monotonic()
        self._idle.clear()

    def _end(self) -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()
