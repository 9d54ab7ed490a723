"""Composes layers into one grpc.aio interceptor."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

import grpc
import grpc.aio

# Strings: gRPC's classes are generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
UnaryBehavior: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
StreamBehavior: TypeAlias = Callable[[Any, Context], AsyncIterator[Any]]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


_GRPC_OWN = "/grpc."


class Layer(Protocol):
    """One concern around every RPC."""

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Return a behavior that does this layer's work around `inner`, a request → response coroutine function."""

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Return a behavior that does this layer's work around `inner`, a request → responses generator function."""


class Chain(grpc.aio.ServerInterceptor):
    """An interceptor made of layers, the first outermost.

    gRPC's own services (`grpc.health.v1`, `grpc.reflection.*`) pass by untouched: anybody may ask them at any time.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
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
        if handler.response_streaming:
            # The stubs describe the threaded server; here the behaviors are coroutine functions.
            stream: StreamBehavior = cast(StreamBehavior, handler.unary_stream)
            for layer in reversed(self._layers):
                stream = layer.stream(method, stream)
            return grpc.unary_stream_rpc_method_handler(
                stream, handler.request_deserializer, handler.response_serializer
            )
        unary: UnaryBehavior = cast(UnaryBehavior, handler.unary_unary)
        for layer in reversed(self._layers):
            unary = layer.unary(method, unary)
        return grpc.unary_unary_rpc_method_handler(
            unary, handler.request_deserializer, handler.response_serializer
        )
