"""Caps how long an RPC may run."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc

from servicekit.rpc.context import Context
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior
from servicekit.rpc.shared_timeout import SharedTimeout
from servicekit.rpc.status_details import RpcError, RpcStatus

_EXCEEDED = RpcStatus(
    grpc.StatusCode.DEADLINE_EXCEEDED, "the call took longer than this server allows", "DEADLINE_EXCEEDED"
)


class DeadlineLayer:
    """Ends a unary call at the server's own cap.

    grpc.aio cancels a handler when the caller's deadline passes; a caller that set none (or zero, which gRPC reads as
    none) would otherwise hold its place for ever. Streams are meant to stay and are not capped.
    """

    def __init__(self, cap: timedelta) -> None:
        self._cap = SharedTimeout(cap.total_seconds())

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Run the call under the cap. A caller's shorter deadline ends it before."""
        cap = self._cap

        async def behavior(request: Any, context: Context) -> Any:
            call = cap.begin()
            try:
                response = await inner(request, context)
            except asyncio.CancelledError:
                if cap.end(call):
                    raise RpcError(_EXCEEDED) from None
                raise
            except BaseException:
                cap.end(call)
                raise
            cap.end(call)
            return response

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Leave streams alone."""
        return inner
