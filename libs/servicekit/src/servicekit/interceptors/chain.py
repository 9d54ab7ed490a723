"""Composes layers into one grpc.aio interceptor."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

import grpc
import grpc.aio

from servicekit.status import Refusal, RefusedError

# Strings: gRPC's classes are generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
UnaryBehavior: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
StreamBehavior: TypeAlias = Callable[[Any, Context], AsyncIterator[Any]]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


_GRPC_OWN = "/grpc."
_UNREADABLE = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the request cannot be read", "UNREADABLE_REQUEST")


class Layer(Protocol):
    """One concern around every RPC."""

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Return a behavior that does this layer's work around `inner`, a request → response coroutine function."""

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Return a behavior that does this layer's work around `inner`, a request → responses generator function."""


class Chain(grpc.aio.ServerInterceptor):
    """An interceptor made of layers, the first outermost.

    The request is read between the outer and the inner layers: bytes that cannot be read are an error like any other,
    answered by the outer ones. gRPC's own services (`grpc.health.v1`, `grpc.reflection.*`) pass by untouched: anybody may
    ask them at any time.
    """

    def __init__(self, outer: Sequence[Layer], inner: Sequence[Layer]) -> None:
        self._outer = outer
        self._inner = inner
        # Bounded by the methods that exist: unknown ones have no handler and are not kept.
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's composed handler, or None when there is no such method."""
        method = handler_call_details.method
        composed = self._handlers.get(method)
        if composed is not None:
            return composed
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(_GRPC_OWN):
            return handler
        composed = self._handlers[method] = self._compose(method, handler)
        return composed

    def _compose(
        self, method: str, handler: "grpc.RpcMethodHandler[Any, Any]"
    ) -> "grpc.RpcMethodHandler[Any, Any]":
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
            raise RefusedError(_UNREADABLE) from None

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
