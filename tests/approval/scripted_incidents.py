"""A real gRPC server in front of the incident service, with scripted failures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import Message

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import (
    IncidentServiceServicer,
    IncidentServiceStub,
    add_IncidentServiceServicer_to_server,
)
from tests.services import TIMEOUT_SECONDS

# A string: gRPC's classes are generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
# Makes the call at the real incident service.
Forward: TypeAlias = Callable[[], Awaitable[Any]]
Behaviour: TypeAlias = Callable[[Forward, Context], Awaitable[Any]]


async def pass_on(forward: Forward, context: Context) -> Any:
    """Forward the call."""
    try:
        return await forward()
    except grpc.aio.AioRpcError as exc:
        await context.abort(exc.code(), exc.details() or "", tuple(exc.trailing_metadata()))


async def hang(_forward: Forward, _context: Context) -> Any:
    """Never respond."""
    await asyncio.Event().wait()


async def lose_the_reply(forward: Forward, _context: Context) -> Any:
    """Forward the call and never respond."""
    await forward()
    await asyncio.Event().wait()


def answer(code: grpc.StatusCode, message: str = "scripted") -> Behaviour:
    """Refuse with this status, without asking the incident service."""

    async def behaviour(_forward: Forward, context: Context) -> Any:
        await context.abort(code, message)

    return behaviour


class ScriptedIncidents(IncidentServiceServicer):
    """The RPCs that the approval service calls."""

    def __init__(self, real: grpc.aio.Channel) -> None:
        self.behaviour: Behaviour = pass_on
        self.lookup_behaviour: Behaviour = pass_on
        # Of AddEvent, which most tests are not about: only an outage stops it. Operations are announced all the same.
        self.timeline_behaviour: Behaviour = pass_on
        # Every Resolve and BatchResolve that was received, with any result.
        self.resolves: list[Message] = []
        self.address = "127.0.0.1:0"
        self._real = IncidentServiceStub(real)
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen: on a free port, and on the same one again after `stop`."""
        if self._server is not None:
            return
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_IncidentServiceServicer_to_server(self, server)
        self.address = f"127.0.0.1:{server.add_insecure_port(self.address)}"
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Break off what is under way and leave the port."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def resolves_of(self, incident_id: str) -> int:
        """The number of calls to resolve this incident."""
        return sum(
            incident_id
            in (
                [call.incident_id]
                if isinstance(call, pb.ResolveRequest)
                else [item.incident_id for item in call.items]
            )
            for call in self.resolves
            if isinstance(call, pb.ResolveRequest | pb.BatchResolveRequest)
        )

    async def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:  # noqa: N802 - the contract's name
        found: pb.GetResponse = await self.behaviour(self._forward(self._real.Get, request, context), context)
        return found

    async def Resolve(self, request: pb.ResolveRequest, context: Any) -> pb.ResolveResponse:  # noqa: N802 - as above
        self.resolves.append(request)
        resolved: pb.ResolveResponse = await self.behaviour(
            self._forward(self._real.Resolve, request, context), context
        )
        return resolved

    async def BatchResolve(self, request: pb.BatchResolveRequest, context: Any) -> pb.BatchResolveResponse:  # noqa: N802 - as above
        self.resolves.append(request)
        resolved: pb.BatchResolveResponse = await self.behaviour(
            self._forward(self._real.BatchResolve, request, context), context
        )
        return resolved

    async def LookupIncidents(self, request: pb.LookupIncidentsRequest, context: Any) -> Any:  # noqa: N802 - as above
        return await self.lookup_behaviour(
            self._forward(self._real.LookupIncidents, request, context), context
        )

    async def AddEvent(self, request: pb.AddEventRequest, context: Any) -> pb.AddEventResponse:  # noqa: N802 - as above
        is_announced = request.type == incident_pb2.IncidentEvent.TYPE_EXECUTION_STARTED
        added: pb.AddEventResponse = await (pass_on if is_announced else self.timeline_behaviour)(
            self._forward(self._real.AddEvent, request, context), context
        )
        return added

    def _forward(self, method: Callable[..., Awaitable[Any]], request: Message, context: Context) -> Forward:
        metadata = tuple(pair for pair in context.invocation_metadata() or () if pair[0] == "awoooi-actor")
        return lambda: method(request, timeout=TIMEOUT_SECONDS, metadata=metadata)


@asynccontextmanager
async def scripted_incidents(address: str) -> AsyncIterator[ScriptedIncidents]:
    """A front of the incident service at `address`, until the block is left."""
    async with grpc.aio.insecure_channel(address) as channel:
        front = ScriptedIncidents(channel)
        await front.start()
        try:
            yield front
        finally:
            await front.stop()
