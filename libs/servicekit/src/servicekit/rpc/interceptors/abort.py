"""The only place where an exception ends an RPC. Its own text never reaches a caller."""

from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc.aio
from grpc_status import rpc_status

from servicekit.rpc.context import Context
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior
from servicekit.rpc.status_codes import ErrorTable
from servicekit.rpc.status_details import RpcStatus


class ErrorLayer:
    """Turns exceptions into google.rpc.Status by one table.

    gRPC keeps the error that `abort` raises with the call, in a circle of references. So the call is aborted only when the
    exception is gone: its traceback holds the frames of every layer, and they the request.
    """

    def __init__(self, table: ErrorTable) -> None:
        self._table = table

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Answer a failed call with its status."""

        async def behavior(request: Any, context: Context) -> Any:
            try:
                return await inner(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as exc:
                status = self._table.status_of(exc, method=method)
            return await abort(context, status)

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """End a failed stream with its status."""

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                async for response in inner(request, context):
                    yield response
            except grpc.aio.AbortError:
                raise
            except Exception as exc:
                status = self._table.status_of(exc, method=method)
            else:
                return
            await abort(context, status)

        return behavior


async def abort(context: Context, status: RpcStatus) -> NoReturn:
    """End the call with a status. To be called outside of any `except`, for the reason above."""
    wire = rpc_status.to_status(status.to_status())
    await context.abort(wire.code, wire.details, wire.trailing_metadata)
