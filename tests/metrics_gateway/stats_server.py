"""A real gRPC server with FlywheelStatsService and health, whose answers a test chooses while it runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["FlywheelStatsService"].full_name

Context = grpc.aio.ServicerContext[Any, Any]
# Bytes are sent as they are, so that a test can answer what no protobuf library would.
Answer = Callable[[Context], Awaitable[Message | bytes]]


def always(answer: Message | bytes) -> Answer:
    """The same answer to every request."""

    async def give(_: Context) -> Message | bytes:
        return answer

    return give


def refuse(code: grpc.StatusCode) -> Answer:
    """No answer but this code."""

    async def abort(context: Context) -> Message | bytes:
        await context.abort(code, "not today")
        raise AssertionError("abort raises")

    return abort


async def never(_: Context) -> Message | bytes:
    """No answer at all."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


class StatsServer:
    """One source. Counts what it is asked."""

    def __init__(
        self, answer: Answer, *, host: str = "127.0.0.1", port: int = 0, with_health: bool = True
    ) -> None:
        self.answer = answer
        self._with_health = with_health
        self.requests: list[pb.GetFlywheelStatsRequest] = []
        # Seconds that each caller was willing to wait.
        self.deadlines: list[float] = []
        self.in_flight = 0
        self._asked = asyncio.Condition()
        self.host = host
        # The one it listens on once it has been started, also after `stop`.
        self.port = port
        self._health = health_aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        """Where it listens, or did."""
        return f"{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen, on a free port if none was named, and on the same one again after `stop`."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handler = grpc.unary_unary_rpc_method_handler(
            self._handle,
            request_deserializer=pb.GetFlywheelStatsRequest.FromString,
            response_serializer=_as_bytes,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"GetFlywheelStats": handler}),)
        )
        if self._with_health:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
            await self.set_serving(serving=True)
        self.port = server.add_insecure_port(self.address)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Break off what is under way and leave the port."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def set_serving(self, *, serving: bool) -> None:
        """Tell health checks whether the service can do its work."""
        status = health_pb2.HealthCheckResponse
        await self._health.set("", status.SERVING if serving else status.NOT_SERVING)

    async def was_asked_times(self, times: int) -> None:
        """Wait until it has been asked so often."""
        async with self._asked:
            await self._asked.wait_for(lambda: len(self.requests) >= times)

    async def _handle(self, request: pb.GetFlywheelStatsRequest, context: Context) -> Message | bytes:
        self.requests.append(request)
        self.deadlines.append(context.time_remaining())
        self.in_flight += 1
        async with self._asked:
            self._asked.notify_all()
        try:
            return await self.answer(context)
        finally:
            self.in_flight -= 1


def _as_bytes(answer: Message | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


@asynccontextmanager
async def stats_server(
    answer: Answer, *, host: str = "127.0.0.1", port: int = 0, with_health: bool = True
) -> AsyncIterator[StatsServer]:
    """A source that listens, until the block is left."""
    server = StatsServer(answer, host=host, port=port, with_health=with_health)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
