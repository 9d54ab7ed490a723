"""Ends streams whose caller's credentials are no longer valid: a stream may be open for longer than they are."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc

from servicekit.rpc.access_log import AccessLog
from servicekit.rpc.caller import Callers
from servicekit.rpc.context import Context
from servicekit.rpc.interceptors.authorization import role_missing
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior
from servicekit.rpc.role_table import RoleTable
from servicekit.rpc.status_details import RpcError


class RevocationLayer:
    """Verifies the caller of an open stream, and its roles, again and again. Unary calls end soon by themselves."""

    def __init__(self, callers: Callers, table: RoleTable, log: AccessLog, *, every: timedelta) -> None:
        self._callers = callers
        self._table = table
        self._log = log
        self._every_seconds = every.total_seconds()

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Leave unary calls alone."""
        return inner

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """End the stream when its caller may no longer open it."""

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            stream = asyncio.current_task()
            if stream is None:
                raise RuntimeError("a stream belongs to a task")
            refusals: list[RpcError] = []

            async def verify() -> None:
                refusals.append(await self._refusal(context, method))
                stream.cancel()

            verifying = asyncio.create_task(verify())
            try:
                async for response in inner(request, context):
                    yield response
            except asyncio.CancelledError:
                if refusals and stream.uncancel() == 0:
                    raise refusals[0] from None
                raise
            finally:
                verifying.cancel()

        return behavior

    async def _refusal(self, context: Context, method: str) -> RpcError:
        """Return, as soon as there is one, why the caller may not go on."""
        needed = self._table.get(method, frozenset())
        while True:
            await asyncio.sleep(self._every_seconds)
            try:
                identity = await self._callers.identify(context, method)
            except RpcError as exc:
                # An identity provider that is away revokes nothing.
                if exc.status.code is not grpc.StatusCode.UNAVAILABLE:
                    return exc
            else:
                if needed.isdisjoint(identity.roles):
                    self._log.denied("role_missing", method, identity)
                    return RpcError(role_missing(needed))
