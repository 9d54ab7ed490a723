"""Ends the streams of gRPC's own services when the server stops: health watches and reflection never end by themselves."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import grpc

from servicekit.rpc.context import Context

_STOPPING = "the server is stopping, try another one"


class OpenStreams:
    """Wraps the handlers of streams so that `end` ends those that are open, and each later one, with UNAVAILABLE."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    def end(self) -> None:
        """End the open streams. Without it a single watching client would hold the stop until the drain time."""
        self._ended.set()

    def around(
        self, _method: str, handler: "grpc.RpcMethodHandler[Any, Any]"
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return the handler with this around it; a unary one is returned unchanged."""
        if not handler.response_streaming:
            return handler
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._until_ended(handler.stream_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_stream_rpc_method_handler(
            self._until_ended(handler.unary_stream),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _until_ended(self, inner: Any) -> Any:
        # The stubs describe the threaded server; here the behaviors are coroutine or async generator functions.
        async def behavior(request: Any, context: Context) -> None:
            stream = asyncio.ensure_future(_responses(inner, request, context))
            ended = asyncio.ensure_future(self._ended.wait())
            try:
                await asyncio.wait([stream, ended], return_when=asyncio.FIRST_COMPLETED)
                if stream.done():
                    await stream
                    return
            finally:
                # Also when the caller went away, which cancels this coroutine alone.
                ended.cancel()
                stream.cancel()
            await asyncio.wait([stream])
            await context.abort(grpc.StatusCode.UNAVAILABLE, _STOPPING)

        return behavior


async def _responses(inner: Callable[[Any, Context], Any], request: Any, context: Context) -> None:
    responses = inner(request, context)
    if not hasattr(responses, "__aiter__"):
        await cast(Coroutine[Any, Any, None], responses)
        return
    async for response in responses:
        await context.write(response)
