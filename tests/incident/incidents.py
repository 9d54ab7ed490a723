"""Requests to the incident service, and what a test looks at in its database."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc.aio

from awoooi.flywheel.v1.flywheel_stats_service_pb2_grpc import FlywheelStatsServiceStub
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub

if TYPE_CHECKING:
    from awoooi.flywheel.v1.flywheel_stats_service_pb2_grpc import FlywheelStatsServiceAsyncStub
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

NO_ACTION = incident_pb2.RESOLUTION_TYPE_NO_ACTION
HUMAN = incident_pb2.RESOLUTION_TYPE_HUMAN
OPEN = incident_pb2.Incident.STATE_OPEN
INVESTIGATING = incident_pb2.Incident.STATE_INVESTIGATING
RESOLVED = incident_pb2.Incident.STATE_RESOLVED
UNKNOWN_ID = "INC-20200101-00000000DEAD"


@asynccontextmanager
async def incident_stub(address: str, *, actor: str = "tester") -> "AsyncIterator[IncidentServiceAsyncStub]":
    """A stub on a channel of its own, without retries, whose calls are made by `actor`."""
    async with grpc.aio.insecure_channel(address, interceptors=[_Actor(actor)]) as channel:
        yield IncidentServiceStub(channel)


@asynccontextmanager
async def stats_stub(address: str) -> "AsyncIterator[FlywheelStatsServiceAsyncStub]":
    """A stub for the figures."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield FlywheelStatsServiceStub(channel)


class _Actor(grpc.aio.UnaryUnaryClientInterceptor):
    """Sends the caller's name and a deadline far away, so that no test hangs."""

    def __init__(self, actor: str) -> None:
        self._actor = actor

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        details = client_call_details._replace(
            metadata=client_call_details.metadata or (("awoooi-actor", self._actor),),
            timeout=client_call_details.timeout or 60,
        )
        return await continuation(details, request)


def token() -> str:
    """A word that no other test uses."""
    return secrets.token_hex(8)


def new_id() -> str:
    """An incident id that no other test uses."""
    return f"INC-20260507-{secrets.token_hex(6).upper()}"


def create_request(**fields: Any) -> pb.CreateRequest:
    """A valid Create, with these fields."""
    valid: dict[str, Any] = {"title": "disk full on db-1", "severity": incident_pb2.SEVERITY_HIGH}
    return pb.CreateRequest(**(valid | fields))


async def opened(stub: "IncidentServiceAsyncStub", **fields: Any) -> incident_pb2.Incident:
    """Open an incident."""
    return (await stub.Create(create_request(**fields))).incident


async def resolved(stub: "IncidentServiceAsyncStub", **fields: Any) -> incident_pb2.Incident:
    """Open an incident and resolve it as NO_ACTION."""
    incident = await opened(stub, **fields)
    request = pb.ResolveRequest(incident_id=incident.incident_id, resolution_type=NO_ACTION, note="observed")
    return (await stub.Resolve(request)).incident


async def event_types(stub: "IncidentServiceAsyncStub", incident_id: str) -> list[str]:
    """The types on an incident's timeline, in order."""
    answer = await stub.ListEvents(pb.ListEventsRequest(incident_id=incident_id))
    return [incident_pb2.IncidentEvent.Type.Name(event.type).removeprefix("TYPE_") for event in answer.events]


async def effects_settled(rows: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Return when no job waits any more; told by the database, not by a clock of ours."""
    waiting = "SELECT count(*) FROM outbox WHERE state = 'PENDING'"
    while await rows.fetchval(waiting):
        # The workers' marks are transactions: each look is a round trip, and the table is small.
        await rows.execute("SELECT pg_sleep(0.02)")
