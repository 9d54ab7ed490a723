"""Composes layers around the handlers of methods."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

import grpc
import grpc.aio

from servicekit.rpc.admission import Places
from servicekit.rpc.context import Context
from servicekit.rpc.status import RpcError, RpcStatus

UnaryBehavior: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
StreamBehavior: TypeAlias = Callable[[Any, Context], AsyncIterator[Any]]


_UNREADABLE = RpcStatus(grpc.StatusCode.INVALID_ARGUMENT, "the request cannot be read", "UNREADABLE_REQUEST")


class Layer(Protocol):
    """One concern around every RPC."""

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Return a behavior that does this layer's work around `inner`, a request → response coroutine function."""

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Return a behavior that does this layer's work around `inner`, a request → responses generator function."""


class Chain:
    """Layers around a handler, the first outermost.

    The request is read between the outer and the inner layers: bytes that cannot be read are an error like any other,
    answered by the outer ones. gRPC itself would read it before any of our code runs, for as long as the caller likes; so the
    handlers are registered as if their requests were streams, which is the same on the wire.
    """

    def __init__(
        self, outer: Sequence[Layer], inner: Sequence[Layer], *, calls: Places, streams: Places
    ) -> None:
        """`calls` and `streams` are the places of unary calls and of streams."""
        self._outer = outer
        self._inner = inner
        self._calls = calls
        self._streams = streams

    def around(
        self, method: str, handler: "grpc.RpcMethodHandler[Any, Any]"
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return the handler of `method` (`/package.Service/Method`) with every layer around it."""
        parse = _parser(handler.request_deserializer)
        # The stubs describe the threaded server; here the behaviors are coroutine functions.
        if handler.response_streaming:
            stream: StreamBehavior = cast(StreamBehavior, handler.unary_stream)
            for layer in reversed(self._inner):
                stream = layer.stream(method, stream)
            stream = self._reading_stream(parse, stream)
            for layer in reversed(self._outer):
                stream = layer.stream(method, stream)
            return grpc.stream_stream_rpc_method_handler(cast(Any, stream), None, handler.response_serializer)
        unary: UnaryBehavior = cast(UnaryBehavior, handler.unary_unary)
        for layer in reversed(self._inner):
            unary = layer.unary(method, unary)
        unary = self._reading_unary(parse, unary)
        for layer in reversed(self._outer):
            unary = layer.unary(method, unary)
        return grpc.stream_unary_rpc_method_handler(cast(Any, unary), None, handler.response_serializer)

    def _reading_unary(self, parse: Callable[[bytes], Any], inner: UnaryBehavior) -> UnaryBehavior:
        calls = self._calls

        async def behavior(_requests: Any, context: Context) -> Any:
            place = calls.enter(context)
            try:
                return await inner(parse(await calls.request(place, context)), context)
            except asyncio.CancelledError:
                place.raise_if_evicted()
                raise
            finally:
                calls.leave(place)

        return behavior

    def _reading_stream(self, parse: Callable[[bytes], Any], inner: StreamBehavior) -> StreamBehavior:
        streams = self._streams

        async def behavior(_requests: Any, context: Context) -> AsyncIterator[Any]:
            place = streams.enter(context)
            try:
                async for response in inner(parse(await streams.request(place, context)), context):
                    yield response
            except asyncio.CancelledError:
                place.raise_if_evicted()
                raise
            finally:
                streams.leave(place)

        return behavior


def _parser(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def parse(data: bytes) -> Any:
        try:
            return data if deserialize is None else deserialize(data)
        except Exception:
            raise RpcError(_UNREADABLE) from None

    return parse
