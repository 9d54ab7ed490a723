"""The two services as their callers see them, with less to write."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as approval_service
from awoooi.approval.v1.approval_service_pb2_grpc import ApprovalServiceStub
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_service
from awoooi.flywheel.v1.flywheel_stats_service_pb2_grpc import FlywheelStatsServiceStub
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as incident_service
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub
from tests.eventually import eventually
from tests.services import PATIENCE_SECONDS

State = approval_pb2.Approval.State
DeliveryState = approval_pb2.Delivery.State
NO_ACTION = "NO_ACTION: observe first"
UNPARSABLE = "please have a look"
RESTART = "RESTART deployment/api -n prod"


def caller(name: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a caller of this name."""
    return (("awoooi-actor", name),)


class Approvals:
    """The approval service; every call under a name and with a deadline."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = ApprovalServiceStub(channel)
        self._stats = FlywheelStatsServiceStub(channel)

    async def propose(
        self, incident_id: str, action: str = NO_ACTION, *, actor: str = "proposer", **fields: Any
    ) -> approval_pb2.Approval:
        """Propose an action; by itself it waits for Execute."""
        asked = {"risk": approval_pb2.RISK_LOW, "auto_execute": False} | fields
        request = approval_service.ProposeRequest(incident_id=incident_id, action=action, **asked)
        response = await self.stub.Propose(request, timeout=PATIENCE_SECONDS, metadata=caller(actor))
        return response.approval

    async def get(self, approval_id: str) -> approval_pb2.Approval:
        """The approval as last committed."""
        request = approval_service.GetRequest(approval_id=approval_id)
        return (await self.stub.Get(request, timeout=PATIENCE_SECONDS)).approval

    async def approve(
        self, approval_id: str, *, actor: str = "approver", reason: str = "", etag: str = ""
    ) -> approval_pb2.Approval:
        """Say yes."""
        request = approval_service.ApproveRequest(approval_id=approval_id, reason=reason, etag=etag)
        response = await self.stub.Approve(request, timeout=PATIENCE_SECONDS, metadata=caller(actor))
        return response.approval

    async def reject(
        self, approval_id: str, *, actor: str = "approver", reason: str = "", etag: str = ""
    ) -> approval_pb2.Approval:
        """Say no."""
        request = approval_service.RejectRequest(approval_id=approval_id, reason=reason, etag=etag)
        response = await self.stub.Reject(request, timeout=PATIENCE_SECONDS, metadata=caller(actor))
        return response.approval

    async def execute(
        self, approval_id: str, *, seconds: float = PATIENCE_SECONDS, **fields: Any
    ) -> approval_service.ExecuteResponse:
        """Execute, or see what executing would do."""
        request = approval_service.ExecuteRequest(approval_id=approval_id, **fields)
        return await self.stub.Execute(request, timeout=seconds, metadata=caller("operator"))

    async def approved(
        self, incident_id: str, action: str = NO_ACTION, **fields: Any
    ) -> approval_pb2.Approval:
        """Propose an action and approve it."""
        proposed = await self.propose(incident_id, action, **fields)
        return await self.approve(proposed.approval_id)

    async def executed(
        self, incident_id: str, action: str = NO_ACTION, **fields: Any
    ) -> approval_pb2.Approval:
        """Propose an action, approve and execute it."""
        approval = await self.approved(incident_id, action, **fields)
        return (await self.execute(approval.approval_id)).approval

    async def list(self, **fields: Any) -> approval_service.ListResponse:
        """A page of approvals."""
        return await self.stub.List(approval_service.ListRequest(**fields), timeout=PATIENCE_SECONDS)

    async def deliveries(self, **fields: Any) -> approval_service.ListDeliveriesResponse:
        """A page of deliveries."""
        request = approval_service.ListDeliveriesRequest(**fields)
        return await self.stub.ListDeliveries(request, timeout=PATIENCE_SECONDS)

    async def delivery(self, approval_id: str) -> approval_pb2.Delivery:
        """The one delivery of an approval."""
        (found,) = (await self.deliveries(approval_id=approval_id)).deliveries
        return found

    async def retry(self, delivery_id: str) -> approval_pb2.Delivery:
        """Put a delivery back."""
        request = approval_service.RetryDeliveryRequest(delivery_id=delivery_id)
        response = await self.stub.RetryDelivery(
            request, timeout=PATIENCE_SECONDS, metadata=caller("operator")
        )
        return response.delivery

    async def until_delivered(self, approval_id: str) -> approval_pb2.Approval:
        """The approval, once the incident service has acknowledged."""
        return await eventually(
            lambda: self.get(approval_id), lambda approval: approval.HasField("incident_resolve_time")
        )

    async def until_delivery(self, approval_id: str, state: DeliveryState.ValueType) -> approval_pb2.Delivery:
        """The delivery of an approval, once it is in this state."""
        return await eventually(lambda: self.delivery(approval_id), lambda delivery: delivery.state == state)

    async def cancel(
        self, approval_id: str, *, actor: str = "operator", reason: str = "", etag: str = ""
    ) -> approval_pb2.Approval:
        """Withdraw an approval."""
        request = approval_service.CancelRequest(approval_id=approval_id, reason=reason, etag=etag)
        response = await self.stub.Cancel(request, timeout=PATIENCE_SECONDS, metadata=caller(actor))
        return response.approval

    async def reconcile(self, *, validate_only: bool = False) -> approval_service.ReconcileResponse:
        """Queue forgotten resolves, or see which there are."""
        request = approval_service.ReconcileRequest(validate_only=validate_only)
        return await self.stub.Reconcile(request, timeout=PATIENCE_SECONDS, metadata=caller("operator"))

    async def figures(
        self,
        view: stats_service.GetFlywheelStatsRequest.View.ValueType = stats_service.GetFlywheelStatsRequest.VIEW_BASIC,
    ) -> stats_service.GetFlywheelStatsResponse:
        """The approval service's figures."""
        request = stats_service.GetFlywheelStatsRequest(view=view)
        return await self._stats.GetFlywheelStats(request, timeout=PATIENCE_SECONDS)


class Incidents:
    """The incident service; every call under a name and with a deadline."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = IncidentServiceStub(channel)
        self._stats = FlywheelStatsServiceStub(channel)

    async def opened(self, **fields: Any) -> str:
        """The id of a new incident."""
        asked: dict[str, Any] = {
            "title": "api answers slowly",
            "severity": incident_pb2.SEVERITY_HIGH,
        } | fields
        request = incident_service.CreateRequest(**asked)
        response = await self.stub.Create(request, timeout=PATIENCE_SECONDS, metadata=caller("detector"))
        return response.incident.incident_id

    async def resolved(self, **fields: Any) -> str:
        """The id of a new incident that somebody resolved."""
        incident_id = await self.opened(**fields)
        await self.resolve(incident_id)
        return incident_id

    async def resolve(self, incident_id: str) -> incident_service.ResolveResponse:
        """Resolve an incident by hand."""
        request = incident_service.ResolveRequest(
            incident_id=incident_id, resolution_type=incident_pb2.RESOLUTION_TYPE_HUMAN
        )
        return await self.stub.Resolve(request, timeout=PATIENCE_SECONDS, metadata=caller("operator"))

    async def get(self, incident_id: str) -> incident_pb2.Incident:
        """The incident as last committed."""
        request = incident_service.GetRequest(incident_id=incident_id)
        return (await self.stub.Get(request, timeout=PATIENCE_SECONDS)).incident

    async def events(
        self, incident_id: str, *types: incident_pb2.IncidentEvent.Type.ValueType
    ) -> Sequence[incident_pb2.IncidentEvent]:
        """The incident's timeline, or its events of these types."""
        request = incident_service.ListEventsRequest(incident_id=incident_id, types=types)
        return (await self.stub.ListEvents(request, timeout=PATIENCE_SECONDS)).events

    async def figures(self) -> stats_service.GetFlywheelStatsResponse:
        """The incident service's figures."""
        request = stats_service.GetFlywheelStatsRequest()
        return await self._stats.GetFlywheelStats(request, timeout=PATIENCE_SECONDS)


@asynccontextmanager
async def approvals_at(address: str) -> AsyncIterator[Approvals]:
    """The approval service at an address, over a channel that never retries by itself."""
    async with _channel(address) as channel:
        yield Approvals(channel)


@asynccontextmanager
async def incidents_at(address: str) -> AsyncIterator[Incidents]:
    """The incident service at an address, over a channel that never retries by itself."""
    async with _channel(address) as channel:
        yield Incidents(channel)


@asynccontextmanager
async def _channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    # A channel's subchannels are shared by default: a restarted server would find the backoff of the one before.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel


def seconds(number: float) -> Duration:
    """A duration for a request."""
    duration = Duration()
    duration.FromNanoseconds(round(number * 1e9))
    return duration
