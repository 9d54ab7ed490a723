"""A gRPC server that answers every method as a test says, and keeps the calls it received."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import Message

from servicekit.rpc.status_details import RpcStatus

# A string: gRPC's classes are generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Answer: TypeAlias = Callable[[bytes, Context], Awaitable[bytes]]
Steps: TypeAlias = Callable[[bytes, Context], AsyncIterator[bytes]]


@dataclass(frozen=True)
class ReceivedCall:
    """One attempt as the server saw it."""

    method: str
    request: bytes
    metadata: dict[str, str | bytes]
    # Seconds until the caller's deadline; None when it has none.
    remaining: float | None


def reply(message: Message | bytes = b"") -> Answer:
    """Answer with a message, or with bytes that are none."""

    async def answer(_request: bytes, _context: Context) -> bytes:
        return message if isinstance(message, bytes) else message.SerializeToString()

    return answer


def refuse(
    code: grpc.StatusCode, reason: str = "SCRIPTED", *, retry_after: timedelta | None = None
) -> Answer:
    """Fail with a google.rpc.Status."""
    status = RpcStatus(code, "scripted", reason, retry_after=retry_after)

    async def answer(_request: bytes, context: Context) -> bytes:
        return await _abort(context, status)

    return answer


async def hang(_request: bytes, _context: Context) -> bytes:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


def stream(*messages: Message | bytes, end: RpcStatus | None = None, stay: bool = False) -> Steps:
    """Send messages, then end well, fail with `end`, or stay open."""

    async def steps(_request: bytes, context: Context) -> AsyncIterator[bytes]:
        for message in messages:
            yield message if isinstance(message, bytes) else message.SerializeToString()
        if stay:
            await asyncio.Event().wait()
        if end is not None:
            await _abort(context, end)

    return steps


async def _abort(context: Context, status: RpcStatus) -> bytes:
    details = (("grpc-status-details-bin", status.to_status().SerializeToString()),)
    await context.abort(status.code, status.message, details)


@dataclass
class ScriptedServer:
    """Where it listens, what it will answer next, and the calls it received. The last answer is given over and over."""

    address: str = ""
    unary: list[Answer] = field(default_factory=lambda: [reply()])
    streams: list[Steps] = field(default_factory=lambda: [stream(stay=True)])
    calls: list[ReceivedCall] = field(default_factory=list)
    # Streams whose caller is gone.
    ended: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def script(self, *answers: Answer) -> None:
        """Answer the next calls so."""
        self.unary = list(answers)
        self.calls.clear()

    def script_streams(self, *streams: Steps) -> None:
        """Answer the next streams so."""
        self.streams = list(streams)
        self.calls.clear()

    def requests(self, kind: Callable[[bytes], Any]) -> Sequence[Any]:
        """The requests of all attempts, parsed."""
        return [kind(call.request) for call in self.calls]


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method.removeprefix("/")

        async def unary(request: bytes, context: Context) -> bytes:
            self._remember(method, request, context)
            answers = self._server.unary
            return await (answers.pop(0) if len(answers) > 1 else answers[0])(request, context)

        async def streamed(request: bytes, context: Context) -> AsyncIterator[bytes]:
            self._remember(method, request, context)
            streams = self._server.streams
            try:
                async for message in (streams.pop(0) if len(streams) > 1 else streams[0])(request, context):
                    yield message
            finally:
                self._server.ended.release()

        if not method.startswith("awoooi."):
            return None  # health checks: what is not implemented counts as healthy
        if method.endswith("/Watch"):
            return grpc.unary_stream_rpc_method_handler(streamed)
        return grpc.unary_unary_rpc_method_handler(unary)

    def _remember(self, method: str, request: bytes, context: Context) -> None:
        metadata = dict(context.invocation_metadata() or ())
        # None when the caller set no deadline, against the type stubs.
        remaining: float | None = context.time_remaining()
        self._server.calls.append(ReceivedCall(method, request, metadata, remaining))


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    """A server on a free port until the block ends."""
    scripted = ScriptedServer()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([_Handler(scripted)])
    scripted.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield scripted
    finally:
        await server.stop(None)
