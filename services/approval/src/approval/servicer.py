"""This service's RPCs on the wire: each handler reads the request, calls one use case, builds the response."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias

import grpc.aio

from approval.delivery.reconcile import Reconciler
from approval.execution.use_cases import Executions
from approval.lifecycle import mapping
from approval.lifecycle.use_cases import ApprovalUseCases
from approval.stats import mapping as stats_mapping
from approval.stats.repository import ApprovalFigures
from awoooi.approval.v1 import approval_service_pb2 as pb
from awoooi.approval.v1 import approval_service_pb2_grpc
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_pb
from awoooi.flywheel.v1 import flywheel_stats_service_pb2_grpc
from servicekit.rpc.identity import current_actor
from servicekit.rpc.page_tokens import PageTokens

# A string: gRPC's classes are generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ApprovalServicer(approval_service_pb2_grpc.ApprovalServiceServicer):
    """awoooi.approval.v1.ApprovalService. What it does not define answers UNIMPLEMENTED."""

    def __init__(
        self,
        use_cases: ApprovalUseCases,
        executions: Executions,
        reconciler: Reconciler,
        page_tokens: PageTokens,
        *,
        default_ttl: timedelta,
    ) -> None:
        self._use_cases = use_cases
        self._executions = executions
        self._reconciler = reconciler
        self._page_tokens = page_tokens
        self._default_ttl = default_ttl

    async def Propose(self, request: pb.ProposeRequest, context: Context) -> pb.ProposeResponse:
        proposal = mapping.proposal(request, default_ttl=self._default_ttl)
        approval = await self._use_cases.propose(proposal, actor=current_actor())
        return pb.ProposeResponse(approval=mapping.approval_to_proto(approval))

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        approval = await self._use_cases.get(request.approval_id)
        return pb.GetResponse(approval=mapping.approval_to_proto(approval))

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        after = mapping.list_position(request, self._page_tokens)
        page = await self._use_cases.list(
            mapping.approval_filter(request), after=after, page_size=mapping.page_size(request.page_size)
        )
        return pb.ListResponse(
            approvals=[mapping.approval_to_proto(approval) for approval in page.approvals],
            next_page_token=mapping.list_token(request, page.next_position, self._page_tokens),
        )

    async def Approve(self, request: pb.ApproveRequest, context: Context) -> pb.ApproveResponse:
        approval = await self._use_cases.approve(
            request.approval_id, actor=current_actor(), reason=request.reason, etag=request.etag
        )
        return pb.ApproveResponse(approval=mapping.approval_to_proto(approval))

    async def Reject(self, request: pb.RejectRequest, context: Context) -> pb.RejectResponse:
        approval = await self._use_cases.reject(
            request.approval_id, actor=current_actor(), reason=request.reason, etag=request.etag
        )
        return pb.RejectResponse(approval=mapping.approval_to_proto(approval))

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:
        approval = await self._use_cases.cancel(
            request.approval_id, actor=current_actor(), reason=request.reason, etag=request.etag
        )
        return pb.CancelResponse(approval=mapping.approval_to_proto(approval))

    async def Execute(self, request: pb.ExecuteRequest, context: Context) -> pb.ExecuteResponse:
        if request.validate_only:
            approval, checks = await self._executions.plan(request.approval_id)
            return mapping.plan_response(approval, checks)
        execution = await self._executions.execute(mapping.execute_command(request))
        return pb.ExecuteResponse(
            approval=mapping.approval_to_proto(execution.approval),
            already_executed=execution.already_executed,
        )

    async def ListExecutions(
        self, request: pb.ListExecutionsRequest, context: Context
    ) -> pb.ListExecutionsResponse:
        executions, following = await self._use_cases.list_executions(
            mapping.execution_filter(request),
            before=mapping.id_position(request, self._page_tokens),
            page_size=mapping.page_size(request.page_size),
        )
        return pb.ListExecutionsResponse(
            executions=[mapping.execution_to_proto(execution) for execution in executions],
            next_page_token=mapping.id_token(request, following, self._page_tokens),
        )

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.ReconcileResponse:
        count, approval_ids = await self._reconciler.reconcile(validate_only=request.validate_only)
        return pb.ReconcileResponse(queued_count=count, approval_ids=approval_ids)

    async def ListDeliveries(
        self, request: pb.ListDeliveriesRequest, context: Context
    ) -> pb.ListDeliveriesResponse:
        deliveries, following = await self._use_cases.list_deliveries(
            states=mapping.delivery_states(request),
            approval_id=request.approval_id,
            before=mapping.id_position(request, self._page_tokens),
            page_size=mapping.page_size(request.page_size),
        )
        return pb.ListDeliveriesResponse(
            deliveries=[mapping.delivery_to_proto(delivery) for delivery in deliveries],
            next_page_token=mapping.id_token(request, following, self._page_tokens),
        )

    async def RetryDelivery(
        self, request: pb.RetryDeliveryRequest, context: Context
    ) -> pb.RetryDeliveryResponse:
        delivery = await self._use_cases.retry_delivery(mapping.delivery_id(request))
        return pb.RetryDeliveryResponse(delivery=mapping.delivery_to_proto(delivery))


class StatsServicer(flywheel_stats_service_pb2_grpc.FlywheelStatsServiceServicer):
    """awoooi.flywheel.v1.FlywheelStatsService: the approval sections."""

    def __init__(
        self, read_figures: Callable[[bool], Awaitable[ApprovalFigures]], *, min_samples: int
    ) -> None:
        self._read_figures = read_figures
        self._min_samples = min_samples

    async def GetFlywheelStats(
        self, request: stats_pb.GetFlywheelStatsRequest, context: Context
    ) -> stats_pb.GetFlywheelStatsResponse:
        figures = await self._read_figures(request.view == stats_pb.GetFlywheelStatsRequest.VIEW_FULL)
        return stats_mapping.figures_to_proto(figures, min_samples=self._min_samples)
