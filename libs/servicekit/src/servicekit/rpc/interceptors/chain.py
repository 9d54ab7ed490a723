"""Composes layers around the handlers of methods."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

import grpc
import grpc.aio

from servicekit.rpc.admission import Places
from servicekit.rpc.context import Context
from servicekit.rpc.serialized import SerializedResponse
from servicekit.rpc.status_details import RpcError, RpcStatus

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
    handlers are registered as if their requests were streams, which is the same on the wire. Answers are serialized here,
    where their size is counted until they are sent.
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
        parse, serialize = _parser(handler.request_deserializer), _serializer(handler.response_serializer)
        # The stubs describe the threaded server; here the behaviors are coroutine functions.
        if handler.response_streaming:
            stream: StreamBehavior = cast(StreamBehavior, handler.unary_stream)
            for layer in reversed(self._inner):
                stream = layer.stream(method, stream)
            stream = self._reading_stream(parse, serialize, stream)
            for layer in reversed(self._outer):
                stream = layer.stream(method, stream)
            return grpc.stream_stream_rpc_method_handler(cast(Any, stream), None, None)
        unary: UnaryBehavior = cast(UnaryBehavior, handler.unary_unary)
        for layer in reversed(self._inner):
            unary = layer.unary(method, unary)
        unary = self._reading_unary(parse, serialize, unary)
        for layer in reversed(self._outer):
            unary = layer.unary(method, unary)
        return grpc.stream_unary_rpc_method_handler(cast(Any, unary), None, None)

    def _reading_unary(
        self, parse: Callable[[bytes], Any], serialize: Callable[[Any], bytes], inner: UnaryBehavior
    ) -> UnaryBehavior:
        calls = self._calls

        async def behavior(_requests: Any, context: Context) -> bytes:
            place = calls.enter(context)
            try:
                answer = serialize(await inner(parse(await calls.request(place, context)), context))
                calls.answers(place, context, len(answer))
            except asyncio.CancelledError:
                calls.leave(place)
                place.raise_if_evicted()
                raise
            except BaseException:
                calls.leave(place)
                raise
            return answer

        return behavior

    def _reading_stream(
        self, parse: Callable[[bytes], Any], serialize: Callable[[Any], bytes], inner: StreamBehavior
    ) -> StreamBehavior:
        streams = self._streams

        async def behavior(_requests: Any, context: Context) -> AsyncIterator[bytes]:
            place = streams.enter(context)
            try:
                async for response in inner(parse(await streams.request(place, context)), context):
                    answer = serialize(response)
                    streams.writes(place, len(answer))
                    yield answer
                    streams.written(place)
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


def _serializer(serialize: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
    if serialize is None:
        return bytes

    def to_bytes(response: Any) -> bytes:
        return response.content if isinstance(response, SerializedResponse) else serialize(response)

    return to_bytes
