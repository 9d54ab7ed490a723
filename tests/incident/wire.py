"""A raw stub, for messages that no client sends: numbers no enum has, missing fields, malformed values."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc.aio

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub


@asynccontextmanager
async def incident_stub(address: str) -> "AsyncIterator[IncidentServiceAsyncStub]":
    """A stub on a channel of its own."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield IncidentServiceStub(channel)


def create_request(**fields: Any) -> pb.CreateRequest:
    """A valid Create with these fields in place of its own."""
    valid: dict[str, Any] = {"title": "disk full on db-1", "severity": incident_pb2.SEVERITY_HIGH}
    return pb.CreateRequest(**(valid | fields))
