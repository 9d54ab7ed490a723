"""Composes layers around the handlers of methods."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

import grpc
import grpc.aio

from servicekit.rpc.status import RpcError, RpcStatus

# Strings: gRPC's classes are generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
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
    answered by the outer ones.
    """

    def __init__(self, outer: Sequence[Layer], inner: Sequence[Layer]) -> None:
        self._outer = outer
        self._inner = inner

    def around(
        self, method: str, handler: "grpc.RpcMethodHandler[Any, Any]"
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return the handler of `method` (`/package.Service/Method`) with every layer around it."""
        read = _reader(handler.request_deserializer)
        # The stubs describe the threaded server; here the behaviors are coroutine functions.
        if handler.response_streaming:
            stream: StreamBehavior = cast(StreamBehavior, handler.unary_stream)
            for layer in reversed(self._inner):
                stream = layer.stream(method, stream)
            stream = _reading_stream(read, stream)
            for layer in reversed(self._outer):
                stream = layer.stream(method, stream)
            return grpc.unary_stream_rpc_method_handler(stream, None, handler.response_serializer)
        unary: UnaryBehavior = cast(UnaryBehavior, handler.unary_unary)
        for layer in reversed(self._inner):
            unary = layer.unary(method, unary)
        unary = _reading_unary(read, unary)
        for layer in reversed(self._outer):
            unary = layer.unary(method, unary)
        return grpc.unary_unary_rpc_method_handler(unary, None, handler.response_serializer)


def _reader(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return data if deserialize is None else deserialize(data)
        except Exception:
            raise RpcError(_UNREADABLE) from None

    return read


def _reading_unary(read: Callable[[bytes], Any], inner: UnaryBehavior) -> UnaryBehavior:
    async def behavior(data: Any, context: Context) -> Any:
        return await inner(read(data), context)

    return behavior


def _reading_stream(read: Callable[[bytes], Any], inner: StreamBehavior) -> StreamBehavior:
    async def behavior(data: Any, context: Context) -> AsyncIterator[Any]:
        async for response in inner(read(data), context):
            yield response

    return behavior
