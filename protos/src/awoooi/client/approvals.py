"""The approval service. Every RPC is a method of the same name; the contract has the semantics of each."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Unpack

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from awoooi.client.aio import AsyncClient
from awoooi.client.call import Call, Listing, Stream
from awoooi.client.methods import ListMethod, UnaryMethod, WatchMethod
from awoooi.client.options import CallOptions
from awoooi.client.sync import SyncClient
from awoooi.client.values import (
    ApprovalOrder,
    ApprovalState,
    DeliveryState,
    DeliveryTopic,
    OperationKind,
    Recovery,
    Risk,
    Time,
    duration,
    enum_value,
    enum_values,
    new_id,
    timestamp,
)

SERVICE = pb.DESCRIPTOR.services_by_name["ApprovalService"].full_name


class ApprovalMethods:
    """What both clients can do. Every call but one form of `execute` is safe to retry: the contract makes it idempotent."""

    @UnaryMethod
    def propose(
        self,
        incident_id: str,
        *,
        action: str,
        risk: Risk,
        rationale: str = "",
        confidence: float | None = None,
        ttl: timedelta | None = None,
        required_approvals: int | None = None,
        auto_execute: bool | None = None,
        supersedes: str = "",
        request_id: str = "",
        **options: Unpack[CallOptions],
    ) -> Call[approval_pb2.Approval]:
        """Propose an action for an incident. Idempotent by `request_id`; a new one is made when none is given.

        `supersedes` is the PENDING approval that it replaces.
        """
        request = pb.ProposeRequest(
            incident_id=incident_id,
            action=action,
            risk=enum_value(approval_pb2.Risk, "RISK_", risk),
            rationale=rationale,
            confidence=confidence,
            ttl=duration(ttl),
            required_approvals=required_approvals,
            auto_execute=auto_execute,
            request_id=request_id or new_id(),
            supersedes=supersedes,
        )
        return Call(
            f"{SERVICE}/Propose",
            request,
            lambda response: pb.ProposeResponse.FromString(response).approval,
            options,
        )

    @UnaryMethod
    def get(self, approval_id: str, **options: Unpack[CallOptions]) -> Call[approval_pb2.Approval]:
        """Return one approval as last committed."""
        request = pb.GetRequest(approval_id=approval_id)
        return Call(
            f"{SERVICE}/Get", request, lambda response: pb.GetResponse.FromString(response).approval, options
        )

    @ListMethod
    def list(
        self,
        *,
        states: Iterable[ApprovalState] = (),
        incident_id: str = "",
        risks: Iterable[Risk] = (),
        operation_kinds: Iterable[OperationKind] = (),
        recoveries: Iterable[Recovery] = (),
        create_time_start: Time | None = None,
        create_time_end: Time | None = None,
        order: ApprovalOrder = pb.ListRequest.ORDER_UNSPECIFIED,
        incident_unknown: bool = False,
        page_size: int = 0,
        page_token: str = "",
        **options: Unpack[CallOptions],
    ) -> Listing[pb.ListResponse, approval_pb2.Approval]:
        """Return the approvals that match every given filter, newest first by default."""
        request = pb.ListRequest(
            states=enum_values(approval_pb2.Approval.State, "STATE_", states),
            incident_id=incident_id,
            risks=enum_values(approval_pb2.Risk, "RISK_", risks),
            operation_kinds=enum_values(approval_pb2.Operation.Kind, "KIND_", operation_kinds),
            recoveries=enum_values(approval_pb2.Recovery, "RECOVERY_", recoveries),
            create_time_start=timestamp(create_time_start),
            create_time_end=timestamp(create_time_end),
            order=enum_value(pb.ListRequest.Order, "ORDER_", order),
            incident_unknown=incident_unknown,
            page_size=page_size,
            page_token=page_token,
        )
        return Listing(
            f"{SERVICE}/List", request, pb.ListResponse.FromString, lambda page: page.approvals, options
        )

    @WatchMethod
    def watch(
        self,
        *,
        states: Iterable[ApprovalState] = (),
        incident_id: str = "",
        approval_id: str = "",
        include_existing: bool = False,
        resume_token: str = "",
        heartbeats: bool = False,
        **options: Unpack[CallOptions],
    ) -> Stream[pb.WatchResponse]:
        """Return the changes of the approvals that match the filters, as they are committed, until it is closed.

        After UNAVAILABLE it goes on where it was: no change is left out, and one may come twice, with the same
        `change.change_id`. Only while existing approvals are sent there is no such place; UnavailableError is raised then, and
        the next iteration begins anew. `heartbeats` yields the responses without a change as well: the first one marks the
        beginning of the stream.
        """
        request = pb.WatchRequest(
            states=enum_values(approval_pb2.Approval.State, "STATE_", states),
            incident_id=incident_id,
            approval_id=approval_id,
            include_existing=include_existing,
            resume_token=resume_token,
        )
        return Stream(
            f"{SERVICE}/Watch",
            request,
            pb.WatchResponse.FromString,
            is_heartbeat=lambda response: not response.HasField("approval"),
            heartbeats=heartbeats,
            options=options,
        )

    @UnaryMethod
    def approve(
        self, approval_id: str, *, reason: str = "", etag: str = "", **options: Unpack[CallOptions]
    ) -> Call[approval_pb2.Approval]:
        """Add the caller's yes to a PENDING approval. Idempotent: it counts once."""
        request = pb.ApproveRequest(approval_id=approval_id, reason=reason, etag=etag)
        return Call(
            f"{SERVICE}/Approve",
            request,
            lambda response: pb.ApproveResponse.FromString(response).approval,
            options,
        )

    @UnaryMethod
    def reject(
        self, approval_id: str, *, reason: str = "", etag: str = "", **options: Unpack[CallOptions]
    ) -> Call[approval_pb2.Approval]:
        """Bring a PENDING approval to REJECTED. Idempotent for the same caller."""
        request = pb.RejectRequest(approval_id=approval_id, reason=reason, etag=etag)
        return Call(
            f"{SERVICE}/Reject",
            request,
            lambda response: pb.RejectResponse.FromString(response).approval,
            options,
        )

    @UnaryMethod
    def cancel(
        self, approval_id: str, *, reason: str = "", etag: str = "", **options: Unpack[CallOptions]
    ) -> Call[approval_pb2.Approval]:
        """Bring an approval to CANCELLED, so that it is never executed. Idempotent for the same caller."""
        request = pb.CancelRequest(approval_id=approval_id, reason=reason, etag=etag)
        return Call(
            f"{SERVICE}/Cancel",
            request,
            lambda response: pb.CancelResponse.FromString(response).approval,
            options,
        )

    @UnaryMethod
    def execute(
        self,
        approval_id: str,
        *,
        validate_only: bool = False,
        resume_indeterminate: bool = False,
        etag: str = "",
        **options: Unpack[CallOptions],
    ) -> Call[pb.ExecuteResponse]:
        """Run an APPROVED approval and return its outcome, or with `validate_only` the plan.

        Idempotent: an executed one comes back with `already_executed`, and a retry while it runs raises
        FailedPreconditionError. With `resume_indeterminate` it is never retried: each attempt may run the operation.
        """
        request = pb.ExecuteRequest(
            approval_id=approval_id,
            validate_only=validate_only,
            resume_indeterminate=resume_indeterminate,
            etag=etag,
        )
        return Call(
            f"{SERVICE}/Execute",
            request,
            pb.ExecuteResponse.FromString,
            options,
            idempotent=not resume_indeterminate,
        )

    @ListMethod
    def list_executions(
        self,
        *,
        approval_id: str = "",
        incident_id: str = "",
        succeeded: bool | None = None,
        start_time_start: Time | None = None,
        start_time_end: Time | None = None,
        page_size: int = 0,
        page_token: str = "",
        **options: Unpack[CallOptions],
    ) -> Listing[pb.ListExecutionsResponse, approval_pb2.Execution]:
        """Return the log of repairs, newest first."""
        request = pb.ListExecutionsRequest(
            approval_id=approval_id,
            incident_id=incident_id,
            succeeded=succeeded,
            start_time_start=timestamp(start_time_start),
            start_time_end=timestamp(start_time_end),
            page_size=page_size,
            page_token=page_token,
        )
        return Listing(
            f"{SERVICE}/ListExecutions",
            request,
            pb.ListExecutionsResponse.FromString,
            lambda page: page.executions,
            options,
        )

    @UnaryMethod
    def reconcile(
        self,
        *,
        validate_only: bool = False,
        accept_unknown_incidents: bool = False,
        **options: Unpack[CallOptions],
    ) -> Call[pb.ReconcileResponse]:
        """Compare all approvals with the incident service, and queue the resolves that it does not have.

        With `validate_only` only say which. With `accept_unknown_incidents` incidents that it does not know are lost, and
        count no longer.

        Idempotent: an approval gets one waiting delivery at most. A retry does not count what the first attempt queued.
        """
        request = pb.ReconcileRequest(
            validate_only=validate_only, accept_unknown_incidents=accept_unknown_incidents
        )
        return Call(f"{SERVICE}/Reconcile", request, pb.ReconcileResponse.FromString, options)

    @UnaryMethod
    def remove_canary(self, approval_id: str, **options: Unpack[CallOptions]) -> Call[bool]:
        """Remove the approval of a canary incident that has ended; False when it is not there. Idempotent."""
        request = pb.RemoveCanaryRequest(approval_id=approval_id)
        return Call(
            f"{SERVICE}/RemoveCanary",
            request,
            lambda response: pb.RemoveCanaryResponse.FromString(response).removed,
            options,
        )

    @ListMethod
    def list_deliveries(
        self,
        *,
        topics: Iterable[DeliveryTopic] = (),
        states: Iterable[DeliveryState] = (),
        approval_id: str = "",
        page_size: int = 0,
        page_token: str = "",
        **options: Unpack[CallOptions],
    ) -> Listing[pb.ListDeliveriesResponse, approval_pb2.Delivery]:
        """Return the deliveries that match every given filter, newest first.

        Without `topics` these are the resolves, and what is PARKED (dead-lettered) or DISMISSED of every topic.
        """
        request = pb.ListDeliveriesRequest(
            topics=enum_values(approval_pb2.Delivery.Topic, "TOPIC_", topics),
            states=enum_values(approval_pb2.Delivery.State, "STATE_", states),
            approval_id=approval_id,
            page_size=page_size,
            page_token=page_token,
        )
        return Listing(
            f"{SERVICE}/ListDeliveries",
            request,
            pb.ListDeliveriesResponse.FromString,
            lambda page: page.deliveries,
            options,
        )

    @UnaryMethod
    def retry_delivery(self, delivery_id: str, **options: Unpack[CallOptions]) -> Call[approval_pb2.Delivery]:
        """Re-queue a PARKED (dead-lettered) delivery.

        Idempotent while it is PENDING; a retry that comes after it was acknowledged raises FailedPreconditionError.
        """
        request = pb.RetryDeliveryRequest(delivery_id=delivery_id)
        return Call(
            f"{SERVICE}/RetryDelivery",
            request,
            lambda response: pb.RetryDeliveryResponse.FromString(response).delivery,
            options,
        )

    @UnaryMethod
    def retry_deliveries(
        self, *, topics: Iterable[DeliveryTopic] = (), limit: int = 0, **options: Unpack[CallOptions]
    ) -> Call[pb.RetryDeliveriesResponse]:
        """Re-queue PARKED (dead-lettered) deliveries of these topics, or of every topic: at most `limit`, 100 by default.

        While the response says `has_more`, call again. Idempotent: what is PENDING is left alone. A retry does not return
        what the first attempt re-queued.
        """
        request = pb.RetryDeliveriesRequest(
            topics=enum_values(approval_pb2.Delivery.Topic, "TOPIC_", topics), limit=limit
        )
        return Call(f"{SERVICE}/RetryDeliveries", request, pb.RetryDeliveriesResponse.FromString, options)

    @UnaryMethod
    def dismiss_delivery(
        self, delivery_id: str, *, reason: str, **options: Unpack[CallOptions]
    ) -> Call[approval_pb2.Delivery]:
        """Give a PARKED (dead-lettered) delivery up for good, on record with the caller and the reason.

        Idempotent: a DISMISSED one is returned as it is.
        """
        request = pb.DismissDeliveryRequest(delivery_id=delivery_id, reason=reason)
        return Call(
            f"{SERVICE}/DismissDelivery",
            request,
            lambda response: pb.DismissDeliveryResponse.FromString(response).delivery,
            options,
        )


class ApprovalClient(ApprovalMethods, AsyncClient):
    """The approval service, async."""


class SyncApprovalClient(ApprovalMethods, SyncClient):
    """The approval service, sync."""
