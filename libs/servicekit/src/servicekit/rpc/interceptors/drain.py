"""Refuses new calls while the server drains, and waits for those in flight."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc

from servicekit.rpc.context import Context
from servicekit.rpc.in_flight import InFlightCalls
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior
from servicekit.rpc.status_details import RpcError, RpcStatus

_DRAINING = RpcStatus(
    grpc.StatusCode.UNAVAILABLE,
    "the server is stopping, try another one",
    "DRAINING",
    retry_after=timedelta(0),
)


class DrainLayer:
    """Counts calls in flight; once draining, answers new ones UNAVAILABLE.

    grpc.aio's own stop answers calls that it has received and not yet handed over with CANCELLED, which no channel
    retries.
    """

    def __init__(self, calls: InFlightCalls) -> None:
        self._calls = calls
        self._draining = False
        self._refused = 0

    async def drain(self, quiet_seconds: float) -> None:
        """Refuse new calls from now on, and return when none is in flight and none has come for `quiet_seconds`.

        By then balanced callers use another server, and what grpc.aio had received was handed over, on a busy machine too.
        """
        self._draining = True
        await self._calls.wait_idle()
        refused = None
        while refused != self._refused:
            refused = self._refused
            await asyncio.sleep(quiet_seconds)

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Count the call, or refuse it."""

        async def behavior(request: Any, context: Context) -> Any:
            self._check()
            self._calls.begin()
            try:
                return await inner(request, context)
            finally:
                self._calls.end()

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Refuse the stream when draining; one that runs is ended by its own use case, and not waited for here."""

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            self._check()
            async for response in inner(request, context):
                yield response

        return behavior

    def _check(self) -> None:
        if self._draining:
            self._refused += 1
            raise RpcError(_DRAINING)
