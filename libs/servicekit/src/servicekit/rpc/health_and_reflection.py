"""gRPC's own services, with places of their own: health, open to every caller, and reflection, to those with a role.

However many calls of other kinds are open, a health check has a place; and their streams, which never end by themselves, end
with the server.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from servicekit.identity.roles import ROLES
from servicekit.rpc.access_log import AccessLog
from servicekit.rpc.admission import Place, Places
from servicekit.rpc.caller import Callers
from servicekit.rpc.context import Context
from servicekit.rpc.interceptors.abort import abort
from servicekit.rpc.interceptors.authorization import role_missing
from servicekit.rpc.open_streams import OpenStreams
from servicekit.rpc.status_details import RpcError


class OwnServices:
    """Wraps their handlers."""

    def __init__(self, places: Places, streams: OpenStreams, callers: Callers, log: AccessLog) -> None:
        self._places = places
        self._streams = streams
        self._callers = callers
        self._log = log

    def around(
        self, method: str, handler: "grpc.RpcMethodHandler[Any, Any]"
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return the handler with a place around it; health alone is open to callers without credentials."""
        is_open = method.startswith("/grpc.health.v1.Health/")
        wrapped = self._streams.around(method, handler)
        codecs = (wrapped.request_deserializer, wrapped.response_serializer)
        # The stubs describe the threaded server; here the behaviors are coroutine functions.
        if not wrapped.response_streaming:
            check: Any = self._with_request(wrapped.unary_unary, None if is_open else method)
            return grpc.stream_unary_rpc_method_handler(check, *codecs)
        if wrapped.request_streaming:
            reflect: Any = self._with_requests(wrapped.stream_stream, None if is_open else method)
            return grpc.stream_stream_rpc_method_handler(reflect, *codecs)
        watch: Any = self._with_request(wrapped.unary_stream, None if is_open else method)
        return grpc.stream_stream_rpc_method_handler(watch, *codecs)

    def _with_request(self, inner: Any, checked: str | None) -> Any:
        async def behavior(_requests: Any, context: Context) -> Any:
            async def call(place: Place) -> Any:
                request = await self._places.request(place, context)
                return await inner(request, _BoundedContext(context, self._places, place))

            return await self._admitted(context, call, checked)

        return behavior

    def _with_requests(self, inner: Any, checked: str | None) -> Any:
        async def behavior(requests: Any, context: Context) -> Any:
            return await self._admitted(
                context, lambda place: inner(requests, _BoundedContext(context, self._places, place)), checked
            )

        return behavior

    async def _admitted(
        self, context: Context, call: Callable[[Place], Awaitable[Any]], checked: str | None
    ) -> Any:
        """Make the call with a place; with `checked`, the method's name, only if its caller has a role."""
        try:
            if checked is not None:
                identity = await self._callers.identify(context, checked)
                if not identity.roles:
                    self._log.denied("role_missing", checked, identity)
                    raise RpcError(role_missing(ROLES))
            place = self._places.enter(context)
            try:
                return await call(place)
            except asyncio.CancelledError:
                place.raise_if_evicted()
                raise
            finally:
                self._places.leave(place)
        except RpcError as exc:
            status = exc.status
        return await abort(context, status)


class _BoundedContext:
    """A context whose writes are known until they are sent."""

    def __init__(self, context: Context, places: Places, place: Place) -> None:
        self._context = context
        self._places = places
        self._place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Message) -> None:
        """Send a message."""
        self._places.writes(self._place, message.ByteSize())
        try:
            await self._context.write(message)
        finally:
            self._places.written(self._place)
