"""The only place where an exception ends an RPC. Its own text never reaches a caller."""

from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc.aio
from grpc_status import rpc_status

from servicekit.rpc.context import Context
from servicekit.rpc.error_table import ErrorTable
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior


class ErrorLayer:
    """Turns exceptions into google.rpc.Status by one table."""

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
                await self._abort(context, method, exc)

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
                await self._abort(context, method, exc)

        return behavior

    async def _abort(self, context: Context, method: str, exc: Exception) -> NoReturn:
        status = rpc_status.to_status(self._table.status_of(exc, method=method).to_status())
        await context.abort(status.code, status.details, status.trailing_metadata)
