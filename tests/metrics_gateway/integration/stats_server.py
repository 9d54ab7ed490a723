"""A real gRPC server with FlywheelStatsService and health; the test sets its responses while it runs."""

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
# Bytes are sent unchanged, so that a test can send what no protobuf library would.
Responder = Callable[[Context], Awaitable[Message | bytes]]


def always(response: Message | bytes) -> Responder:
    """The same response to every request."""

    async def give(_: Context) -> Message | bytes:
        return response

    return give


def refuse(code: grpc.StatusCode) -> Responder:
    """This error code for every request."""

    async def abort(context: Context) -> Message | bytes:
        await context.abort(code, "not today")
        raise AssertionError("abort raises")

    return abort


async def never(_: Context) -> Message | bytes:
    """No response at all."""
    await asyncio.Event().wait()
    raise AssertionError("never set")


class StatsServer:
    """One source. Records its requests."""

    def __init__(
        self, responder: Responder, *, host: str = "127.0.0.1", port: int = 0, with_health: bool = True
    ) -> None:
        self.responder = responder
        self._with_health = with_health
        self.requests: list[pb.GetFlywheelStatsRequest] = []
        # The remaining seconds of each request's deadline.
        self.deadlines: list[float] = []
        self.in_flight = 0
        self._request_arrived = asyncio.Condition()
        self.host = host
        # The actual port once it has been started, also after `stop`.
        self.port = port
        # Without them in plain text.
        self.credentials: grpc.ServerCredentials | None = None
        self._health = health_aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        """Its address, also after `stop`."""
        return f"{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen, on a free port by default, and on the same one again after `stop`."""
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
        if self.credentials is None:
            self.port = server.add_insecure_port(self.address)
        else:
            self.port = server.add_secure_port(self.address, self.credentials)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Abort the requests in flight and free the port."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def set_serving(self, *, serving: bool) -> None:
        """Set the status of the health service."""
        status = health_pb2.HealthCheckResponse
        await self._health.set("", status.SERVING if serving else status.NOT_SERVING)

    async def received(self, times: int) -> None:
        """Wait until it has received so many requests."""
        async with self._request_arrived:
            await self._request_arrived.wait_for(lambda: len(self.requests) >= times)

    async def _handle(self, request: pb.GetFlywheelStatsRequest, context: Context) -> Message | bytes:
        self.requests.append(request)
        self.deadlines.append(context.time_remaining())
        self.in_flight += 1
        async with self._request_arrived:
            self._request_arrived.notify_all()
        try:
            return await self.responder(context)
        finally:
            self.in_flight -= 1


def _as_bytes(response: Message | bytes) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()


@asynccontextmanager
async def stats_server(
    responder: Responder,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    with_health: bool = True,
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[StatsServer]:
    """A source that listens, until the block is left."""
    server = StatsServer(responder, host=host, port=port, with_health=with_health)
    server.credentials = credentials
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
