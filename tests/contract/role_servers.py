"""The servers of both services with their role tables, over handlers that are not implemented."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from prometheus_client import CollectorRegistry

from approval.roles import ROLES as APPROVAL_ROLES
from awoooi.approval.v1 import approval_service_pb2, approval_service_pb2_grpc
from awoooi.flywheel.v1 import flywheel_stats_service_pb2, flywheel_stats_service_pb2_grpc
from awoooi.incident.v1 import incident_service_pb2, incident_service_pb2_grpc
from incident.roles import ROLES as INCIDENT_ROLES
from servicekit.identity.authenticator import Authenticator
from servicekit.identity.credentials import Credentials
from servicekit.identity.identity import Identity
from servicekit.rpc.server import Server
from servicekit.rpc.server_builder import ServerBuilder
from servicekit.rpc.server_limits import ServerLimits
from servicekit.rpc.status_codes import ErrorTable
from servicekit.rpc.tls import ServerTls

INCIDENTS = incident_service_pb2.DESCRIPTOR.services_by_name["IncidentService"]
APPROVALS = approval_service_pb2.DESCRIPTOR.services_by_name["ApprovalService"]
STATS = flywheel_stats_service_pb2.DESCRIPTOR.services_by_name["FlywheelStatsService"]


class WithServices(Authenticator):
    """Takes credentials as a service does, and certificates by their name alone: those are tested with TLS."""

    async def authenticate(self, credentials: Credentials) -> Identity:
        """Return the identity of the credentials."""
        name = credentials.authorization[0] if credentials.authorization else ""
        return await super().authenticate(
            Credentials(service=name) if name.startswith("service:") else credentials
        )


@dataclass
class Servers:
    """The two services, and how a method of them is called."""

    channels: Mapping[str, grpc.aio.Channel]

    # By the name of a column, or of what is wrong with them, what is sent as `authorization`.
    credentials: Mapping[str, str | None]

    async def close(self) -> None:
        """Close the channels."""
        for channel in self.channels.values():
            await channel.close()

    async def call(
        self, service: str, method: MethodDescriptor, authorization: str | None
    ) -> grpc.StatusCode:
        """How a call with an empty request ends."""
        channel = self.channels[service]
        path = f"/{method.containing_service.full_name}/{method.name}"
        metadata = None if authorization is None else (("authorization", authorization),)
        request = GetMessageClass(method.input_type)().SerializeToString()
        try:
            if method.server_streaming:
                stream: Any = channel.unary_stream(path)
                async for _ in stream(request, metadata=metadata):
                    pass
            else:
                unary: Any = channel.unary_unary(path)
                await unary(request, metadata=metadata)
        except grpc.aio.AioRpcError as exc:
            return exc.code()
        return grpc.StatusCode.OK


@asynccontextmanager
async def running_servers(
    authenticator: Authenticator, tls: ServerTls | None = None
) -> AsyncIterator[Mapping[str, Server]]:
    """Both servers until the block ends."""
    incident = _server(INCIDENT_ROLES, authenticator, tls)
    incident.add(
        incident_service_pb2_grpc.add_IncidentServiceServicer_to_server,
        incident_service_pb2_grpc.IncidentServiceServicer(),
        INCIDENTS.full_name,
    )
    approval = _server(APPROVAL_ROLES, authenticator, tls)
    approval.add(
        approval_service_pb2_grpc.add_ApprovalServiceServicer_to_server,
        approval_service_pb2_grpc.ApprovalServiceServicer(),
        APPROVALS.full_name,
    )
    running: dict[str, Server] = {}
    for name, builder in (("incident", incident), ("approval", approval)):
        builder.add(
            flywheel_stats_service_pb2_grpc.add_FlywheelStatsServiceServicer_to_server,
            flywheel_stats_service_pb2_grpc.FlywheelStatsServiceServicer(),
            STATS.full_name,
        )
        running[name] = builder.build()
        await running[name].start()
    try:
        yield running
    finally:
        for server in running.values():
            await server.stop()


def _server(
    roles: Mapping[str, frozenset[str]], authenticator: Authenticator, tls: ServerTls | None
) -> ServerBuilder:
    return ServerBuilder(
        "127.0.0.1:0",
        errors=ErrorTable({}),
        registry=CollectorRegistry(),
        roles=roles,
        authenticator=authenticator,
        tls=tls,
        limits=ServerLimits(calls_per_second=0),
    )
