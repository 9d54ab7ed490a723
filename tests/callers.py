"""Clients of the two services, with what tests prepare again and again."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1.approval_service_pb2_grpc import ApprovalServiceStub
from awoooi.client import NO_RETRIES, ApprovalClient, IncidentClient, StatsClient
from awoooi.client.values import ResolutionType, View
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_service
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as incident_service
from tests.eventually import eventually
from tests.services import TIMEOUT_SECONDS

State = approval_pb2.Approval.State
DeliveryState = approval_pb2.Delivery.State
NO_ACTION = "NO_ACTION: observe first"
UNPARSABLE = "please have a look"
RESTART = "RESTART deployment/api -n prod"


def caller(name: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a caller of this name."""
    return (("awoooi-actor", name),)


class Approvals(ApprovalClient):
    """The approval service, called by an approver, and what tests prepare."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel, actor="approver", timeout=TIMEOUT_SECONDS, retry=NO_RETRIES)
        # For what no client sends.
        self.stub = ApprovalServiceStub(channel)
        self._stats = StatsClient(channel, timeout=TIMEOUT_SECONDS, retry=NO_RETRIES)

    async def proposed(
        self, incident_id: str, action: str = NO_ACTION, *, actor: str = "proposer", **fields: Any
    ) -> approval_pb2.Approval:
        """Propose an action; it waits for Execute."""
        proposal: dict[str, Any] = {"risk": "LOW", "auto_execute": False} | fields
        return await self.propose(incident_id, action=action, actor=actor, **proposal)

    async def approved(
        self, incident_id: str, action: str = NO_ACTION, **fields: Any
    ) -> approval_pb2.Approval:
        """Propose an action and approve it."""
        proposed = await self.proposed(incident_id, action, **fields)
        return await self.approve(proposed.approval_id)

    async def executed(
        self, incident_id: str, action: str = NO_ACTION, **fields: Any
    ) -> approval_pb2.Approval:
        """Propose an action, approve and execute it."""
        approval = await self.approved(incident_id, action, **fields)
        return (await self.execute(approval.approval_id)).approval

    async def delivery(self, approval_id: str) -> approval_pb2.Delivery:
        """The one delivery of an approval."""
        (found,) = [delivery async for delivery in self.list_deliveries(approval_id=approval_id)]
        return found

    async def until_delivered(self, approval_id: str) -> approval_pb2.Approval:
        """The approval, once the incident service has acknowledged."""
        return await eventually(
            lambda: self.get(approval_id), lambda approval: approval.HasField("incident_resolve_time")
        )

    async def until_delivery(self, approval_id: str, state: DeliveryState.ValueType) -> approval_pb2.Delivery:
        """The delivery of an approval, once it is in this state."""
        return await eventually(lambda: self.delivery(approval_id), lambda delivery: delivery.state == state)

    async def stats(self, view: View = "BASIC") -> stats_service.GetFlywheelStatsResponse:
        """The approval service's statistics."""
        return await self._stats.get_flywheel_stats(view=view)


class Incidents(IncidentClient):
    """The incident service, called by an operator, and what tests prepare."""

    def __init__(self, channel: grpc.aio.Channel, *, actor: str = "operator") -> None:
        super().__init__(channel, actor=actor, timeout=TIMEOUT_SECONDS, retry=NO_RETRIES)
        self._stats = StatsClient(channel, timeout=TIMEOUT_SECONDS, retry=NO_RETRIES)

    async def report(self, **fields: Any) -> incident_service.CreateResponse:
        """Create with these fields and valid ones."""
        valid: dict[str, Any] = {"title": "api answers slowly", "severity": "HIGH"}
        return await self.create(**(valid | fields))

    async def opened(self, **fields: Any) -> incident_pb2.Incident:
        """A new incident."""
        return (await self.report(**fields)).incident

    async def opened_id(self, **fields: Any) -> str:
        """The id of a new incident that a detector opened."""
        return (await self.opened(actor="detector", **fields)).incident_id

    async def resolved(
        self, *, resolution_type: ResolutionType = "NO_ACTION", note: str = "observed", **fields: Any
    ) -> incident_pb2.Incident:
        """A new incident that was resolved."""
        opened = await self.opened(**fields)
        response = await self.resolve(opened.incident_id, resolution_type=resolution_type, note=note)
        return response.incident

    async def events(
        self, incident_id: str, *types: incident_pb2.IncidentEvent.Type.ValueType
    ) -> Sequence[incident_pb2.IncidentEvent]:
        """The incident's timeline, or its events of these types."""
        return [event async for event in self.list_events(incident_id, types=types)]

    async def event_types(self, incident_id: str) -> list[str]:
        """The types on an incident's timeline, in order."""
        name = incident_pb2.IncidentEvent.Type.Name
        return [name(event.type).removeprefix("TYPE_") for event in await self.events(incident_id)]

    async def stats(self, view: View = "BASIC") -> stats_service.GetFlywheelStatsResponse:
        """The incident service's statistics."""
        return await self._stats.get_flywheel_stats(view=view)


@asynccontextmanager
async def approvals_at(address: str) -> AsyncIterator[Approvals]:
    """The approval service at an address, over a channel that never retries by itself."""
    async with _channel(address) as channel:
        yield Approvals(channel)


@asynccontextmanager
async def incidents_at(address: str, *, actor: str = "operator") -> AsyncIterator[Incidents]:
    """The incident service at an address, over a channel that never retries by itself."""
    async with _channel(address) as channel:
        yield Incidents(channel, actor=actor)


@asynccontextmanager
async def _channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    # A channel's subchannels are shared by default: a restarted server would find the backoff of the one before.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel
