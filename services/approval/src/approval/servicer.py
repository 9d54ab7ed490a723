"""The RPC handlers: each reads the request, calls one use case and builds the response."""

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import timedelta
from typing import Any, TypeAlias

import grpc.aio

from approval.delivery import mapping as delivery_mapping
from approval.delivery.dead_letters import DeadLetterUseCases
from approval.delivery.reconcile import Reconciler
from approval.delivery.use_cases import DeliveryUseCases
from approval.execution import mapping as execution_mapping
from approval.execution.log_use_cases import ExecutionLogUseCase
from approval.execution.plan import PlanUseCase
from approval.execution.use_cases import ExecuteUseCase
from approval.lifecycle import mapping
from approval.lifecycle.canary import CanaryUseCase
from approval.lifecycle.propose import ProposeUseCase
from approval.lifecycle.use_cases import ApprovalUseCases
from approval.model import Approval
from approval.roles import CANCELS_ANY
from approval.stats import mapping as stats_mapping
from approval.stats.model import ApprovalStats
from approval.watch import mapping as watch_mapping
from approval.watch.changes import Change, WatchFilter
from awoooi.approval.v1 import approval_service_pb2 as pb
from awoooi.approval.v1 import approval_service_pb2_grpc
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_pb
from awoooi.flywheel.v1 import flywheel_stats_service_pb2_grpc
from servicekit.process.build import Build
from servicekit.rpc.audited import current_call
from servicekit.rpc.cursors import page_size, read_id_cursor, read_time_cursor
from servicekit.rpc.identity import current_identity
from servicekit.rpc.page_tokens import PageTokens
from servicekit.stats import StatsUseCase
from servicekit.watch.tokens import make_token, resume_point
from servicekit.watch.use_cases import WatchUseCase

# A string: gRPC's classes are generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# The methods whose cost grows with what is stored.
HEAVY_READS = frozenset({"List", "ListExecutions", "ListDeliveries"})


class ApprovalServicer(approval_service_pb2_grpc.ApprovalServiceServicer):
    """awoooi.approval.v1.ApprovalService. A method that is missing here returns UNIMPLEMENTED."""

    def __init__(
        self,
        *,
        propose: ProposeUseCase,
        approvals: ApprovalUseCases,
        execute: ExecuteUseCase,
        plan: PlanUseCase,
        execution_log: ExecutionLogUseCase,
        deliveries: DeliveryUseCases,
        dead_letters: DeadLetterUseCases,
        canaries: CanaryUseCase,
        reconciler: Reconciler,
        watch: WatchUseCase[WatchFilter, Change, Approval],
        page_tokens: PageTokens,
        default_ttl: timedelta,
    ) -> None:
        self._propose = propose
        self._approvals = approvals
        self._execute = execute
        self._plan = plan
        self._execution_log = execution_log
        self._deliveries = deliveries
        self._dead_letters = dead_letters
        self._canaries = canaries
        self._reconciler = reconciler
        self._watch = watch
        self._page_tokens = page_tokens
        self._default_ttl = default_ttl

    async def Propose(self, request: pb.ProposeRequest, context: Context) -> pb.ProposeResponse:
        proposal = mapping.proposal(request, default_ttl=self._default_ttl)
        approval = await self._propose.propose(
            proposal, call=current_call(), cancels_any=CANCELS_ANY in current_identity().roles
        )
        return pb.ProposeResponse(approval=mapping.approval_to_proto(approval))

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        approval = await self._approvals.get(request.approval_id)
        return pb.GetResponse(approval=mapping.approval_to_proto(approval))

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        page = await self._approvals.list(
            mapping.approval_filter(request),
            after=read_time_cursor(request, self._page_tokens),
            page_size=page_size(request.page_size),
        )
        return await mapping.list_response(request, page, self._page_tokens)

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        steps = self._watch.watch(
            watch_mapping.watch_filter(request),
            resume=resume_point(request, self._page_tokens),
            include_existing=request.include_existing,
            token=make_token(request, self._page_tokens),
        )
        async for step in steps:
            yield watch_mapping.watch_response(step)

    async def Approve(self, request: pb.ApproveRequest, context: Context) -> pb.ApproveResponse:
        approval = await self._approvals.approve(
            request.approval_id, call=current_call(), reason=request.reason, etag=request.etag
        )
        return pb.ApproveResponse(approval=mapping.approval_to_proto(approval))

    async def Reject(self, request: pb.RejectRequest, context: Context) -> pb.RejectResponse:
        approval = await self._approvals.reject(
            request.approval_id, call=current_call(), reason=request.reason, etag=request.etag
        )
        return pb.RejectResponse(approval=mapping.approval_to_proto(approval))

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:
        approval = await self._approvals.cancel(
            request.approval_id,
            call=current_call(),
            cancels_any=CANCELS_ANY in current_identity().roles,
            reason=request.reason,
            etag=request.etag,
        )
        return pb.CancelResponse(approval=mapping.approval_to_proto(approval))

    async def Execute(self, request: pb.ExecuteRequest, context: Context) -> pb.ExecuteResponse:
        if request.validate_only:
            return execution_mapping.plan_response(await self._plan.plan(request.approval_id))
        executed = await self._execute.execute(
            execution_mapping.execute_command(request), call=current_call()
        )
        return execution_mapping.execute_response(executed)

    async def ListExecutions(
        self, request: pb.ListExecutionsRequest, context: Context
    ) -> pb.ListExecutionsResponse:
        page = await self._execution_log.list(
            execution_mapping.execution_filter(request),
            before=read_id_cursor(request, self._page_tokens),
            page_size=page_size(request.page_size),
        )
        return await execution_mapping.list_response(request, page, self._page_tokens)

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.ReconcileResponse:
        if request.validate_only:
            return delivery_mapping.reconcile_response(await self._reconciler.find())
        return delivery_mapping.reconcile_response(
            await self._reconciler.reconcile(
                call=current_call(), accepts_unknown=request.accept_unknown_incidents
            )
        )

    async def RemoveCanary(
        self, request: pb.RemoveCanaryRequest, context: Context
    ) -> pb.RemoveCanaryResponse:
        removed = await self._canaries.remove(request.approval_id, call=current_call())
        return pb.RemoveCanaryResponse(removed=removed)

    async def ListDeliveries(
        self, request: pb.ListDeliveriesRequest, context: Context
    ) -> pb.ListDeliveriesResponse:
        page = await self._deliveries.list(
            topics=delivery_mapping.delivery_topics(request),
            states=delivery_mapping.delivery_states(request),
            approval_id=request.approval_id,
            before=read_id_cursor(request, self._page_tokens),
            page_size=page_size(request.page_size),
        )
        return await delivery_mapping.list_response(request, page, self._page_tokens)

    async def RetryDelivery(
        self, request: pb.RetryDeliveryRequest, context: Context
    ) -> pb.RetryDeliveryResponse:
        delivery = await self._dead_letters.retry(delivery_mapping.delivery_id(request), call=current_call())
        return pb.RetryDeliveryResponse(delivery=delivery_mapping.delivery_to_proto(delivery))

    async def RetryDeliveries(
        self, request: pb.RetryDeliveriesRequest, context: Context
    ) -> pb.RetryDeliveriesResponse:
        limit = delivery_mapping.retry_limit(request)
        requeued = await self._dead_letters.retry_parked(
            delivery_mapping.delivery_topics(request), limit=limit, call=current_call()
        )
        return delivery_mapping.retry_response(requeued, limit=limit)

    async def DismissDelivery(
        self, request: pb.DismissDeliveryRequest, context: Context
    ) -> pb.DismissDeliveryResponse:
        delivery = await self._dead_letters.dismiss(
            delivery_mapping.delivery_id(request), call=current_call(), reason=request.reason
        )
        return pb.DismissDeliveryResponse(delivery=delivery_mapping.delivery_to_proto(delivery))


class StatsServicer(flywheel_stats_service_pb2_grpc.FlywheelStatsServiceServicer):
    """awoooi.flywheel.v1.FlywheelStatsService: the server, and the approval sections."""

    def __init__(
        self,
        stats: StatsUseCase[ApprovalStats],
        *,
        min_samples: int,
        refused: Mapping[str, int],
        unusable: Collection[str],
        build: Build,
    ) -> None:
        self._stats = stats
        self._min_samples = min_samples
        self._refused = refused
        self._unusable = unusable
        self._build = build

    async def GetFlywheelStats(
        self, request: stats_pb.GetFlywheelStatsRequest, context: Context
    ) -> stats_pb.GetFlywheelStatsResponse:
        stats = await self._stats.read(
            with_details=request.view == stats_pb.GetFlywheelStatsRequest.VIEW_FULL
        )
        response = stats_mapping.stats_to_proto(stats, min_samples=self._min_samples)
        response.server.CopyFrom(
            stats_mapping.server_to_proto(
                self._refused, self._unusable, self._build, database_revision=stats.database_revision
            )
        )
        return response
