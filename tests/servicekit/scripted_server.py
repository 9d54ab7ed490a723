"""A small service over the real contract, on a real server, scripted by a test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from prometheus_client import CollectorRegistry

from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1 import incident_service_pb2_grpc
from servicekit.identity.authenticator import Authenticator
from servicekit.identity.roles import EVERY_ROLE
from servicekit.rpc.role_table import RoleTable, role_table
from servicekit.rpc.server import Server
from servicekit.rpc.server_builder import ServerBuilder
from servicekit.rpc.server_limits import ServerLimits
from servicekit.rpc.status_codes import ErrorTable
from servicekit.rpc.tls import ServerTls

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

SERVICE = "awoooi.incident.v1.IncidentService"
# Every method is open to every role.
_OPEN = role_table(
    SERVICE,
    {method.name: EVERY_ROLE for method in pb.DESCRIPTOR.services_by_name["IncidentService"].methods},
)
VALID = pb.GetRequest(incident_id="INC-20260507-99ADF2")

Answer = Callable[[Any, Any], Awaitable[pb.GetResponse]]
Stream = Callable[[Any, Any], AsyncIterator[pb.WatchResponse]]


class ScriptedService(incident_service_pb2_grpc.IncidentServiceServicer):
    """Get answers with `answer`, Watch with `stream`; the rest is not implemented."""

    def __init__(self) -> None:
        self.answer: Answer = at_once
        self.stream: Stream = empty
        self.calls = 0

    async def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:  # noqa: N802 - the contract's name
        self.calls += 1
        return await self.answer(request, context)

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:  # noqa: N802 - the contract's name
        async for response in self.stream(request, context):
            yield response


async def at_once(_request: Any, _context: Any) -> pb.GetResponse:
    return pb.GetResponse()


async def empty(_request: Any, _context: Any) -> AsyncIterator[pb.WatchResponse]:
    for response in list[pb.WatchResponse]():
        yield response


class Held:
    """An answer that says when it began, and when it was cancelled."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, _request: Any, _context: Any) -> pb.GetResponse:
        self.began.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return pb.GetResponse()


def raising(error: BaseException) -> Answer:
    """An answer that fails."""

    async def answer(_request: Any, _context: Any) -> pb.GetResponse:
        raise error

    return answer


@dataclass
class Running:
    """A server that runs, and how to reach it."""

    server: Server
    service: ScriptedService
    registry: CollectorRegistry
    channel: grpc.aio.Channel
    stub: "IncidentServiceAsyncStub"

    def handled(self, code: str, method: str = "Get") -> float:
        """How many calls of a method ended with a code."""
        labels = {"grpc_service": SERVICE, "grpc_method": method, "grpc_code": code}
        return self.registry.get_sample_value("grpc_server_handled_total", labels) or 0.0

    def timed(self, method: str = "Get") -> float:
        """How many calls of a method were timed."""
        labels = {"grpc_service": SERVICE, "grpc_method": method}
        return self.registry.get_sample_value("grpc_server_handling_seconds_count", labels) or 0.0

    def open_calls(self) -> float:
        """How many unary calls are open."""
        return self.registry.get_sample_value("grpc_server_open_calls", {"kind": "calls"}) or 0.0


@asynccontextmanager
async def scripted_server(
    *,
    errors: ErrorTable | None = None,
    limits: ServerLimits | None = None,
    address: str = "127.0.0.1:0",
    reflection: bool = True,
    tls: ServerTls | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    authenticator: Authenticator | None = None,
    roles: RoleTable = _OPEN,
    health_address: str | None = None,
) -> AsyncIterator[Running]:
    """A server with a ScriptedService until the block ends; with `tls`, reached with these credentials."""
    registry, service = CollectorRegistry(), ScriptedService()
    server = (
        ServerBuilder(
            address,
            errors=errors or ErrorTable({}),
            registry=registry,
            roles=roles,
            authenticator=authenticator,
            limits=limits,
            tls=tls,
            reflection_enabled=reflection,
            health_address=health_address,
        )
        .add(incident_service_pb2_grpc.add_IncidentServiceServicer_to_server, service, SERVICE)
        .build()
    )
    await server.start()
    try:
        async with channel_to(server.address, credentials) as channel:
            stub = incident_service_pb2_grpc.IncidentServiceStub(channel)
            yield Running(server, service, registry, channel, stub)
    finally:
        await server.stop()


def channel_to(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """A channel in plain text, or with credentials."""
    if credentials is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, credentials)
