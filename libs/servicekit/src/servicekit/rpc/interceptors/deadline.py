"""Caps how long an RPC may run."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc

from servicekit.rpc.context import Context
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior
from servicekit.rpc.status import RpcError, RpcStatus

_EXCEEDED = RpcStatus(
    grpc.StatusCode.DEADLINE_EXCEEDED, "the call took longer than this server allows", "DEADLINE_EXCEEDED"
)


class DeadlineLayer:
    """Ends a unary call at the server's own cap.

    grpc.aio cancels a handler when the caller's deadline passes; a caller that set none (or zero, which gRPC reads as
    none) would otherwise hold its place for ever. Streams are meant to stay and are not capped.
    """

    def __init__(self, cap: timedelta) -> None:
        self._cap_seconds = cap.total_seconds()

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Run the call under the cap when the caller's deadline is later or absent."""

        async def behavior(request: Any, context: Context) -> Any:
            # None when the caller set no deadline, although the stubs exclude it.
            remaining: float | None = context.time_remaining()
            if remaining is not None and remaining <= self._cap_seconds:
                return await inner(request, context)
            cap = asyncio.timeout(self._cap_seconds)
            try:
                async with cap:
                    return await inner(request, context)
            except TimeoutError:
                if cap.expired():
                    raise RpcError(_EXCEEDED) from None
                raise

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Leave streams alone."""
        return inner
