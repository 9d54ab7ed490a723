"""The figures as the sections of GetFlywheelStats. Every value of an enum is there, 0 included."""

from google.protobuf.duration_pb2 import Duration

from approval.lifecycle.mapping import delivery_to_proto
from approval.model import DeliveryState, ExecutionOutcome, State
from approval.stats.repository import WINDOW, ApprovalDetails, ApprovalFigures
from awoooi.approval.v1 import approval_pb2
from awoooi.flywheel.v1 import flywheel_stats_pb2 as figures_pb
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb
from servicekit.rpc.timestamps import to_timestamp


def figures_to_proto(figures: ApprovalFigures, *, min_samples: int) -> pb.GetFlywheelStatsResponse:
    """Return the response with the approval service's sections."""
    response = pb.GetFlywheelStatsResponse(
        read_time=to_timestamp(figures.read_time),
        executions=_executions(figures, min_samples),
        approvals=figures_pb.ApprovalStats(
            approvals=[
                figures_pb.ApprovalStateCount(
                    state=approval_pb2.Approval.State.Value(f"STATE_{state}"),
                    count=figures.approvals.get(state, 0),
                )
                for state in State
            ],
            oldest_pending_seconds=figures.approval_oldest_pending_seconds,
        ),
        deliveries=figures_pb.DeliveryStats(
            deliveries=[
                figures_pb.DeliveryStateCount(
                    state=approval_pb2.Delivery.State.Value(f"STATE_{state}"),
                    count=figures.deliveries.get(state, 0),
                )
                for state in (DeliveryState.PENDING, DeliveryState.PARKED)
            ],
            oldest_pending_seconds=figures.delivery_oldest_pending_seconds,
        ),
    )
    if figures.details is not None:
        _add_details(response, figures.details)
    return response


def _add_details(response: pb.GetFlywheelStatsResponse, details: ApprovalDetails) -> None:
    response.approvals.pending.extend(
        figures_pb.PendingApproval(
            approval_id=approval.approval_id,
            incident_id=approval.incident_id,
            action=approval.action,
            risk=approval_pb2.Risk.Value(f"RISK_{approval.risk}"),
            create_time=to_timestamp(approval.create_time),
            expire_time=to_timestamp(approval.expire_time),
        )
        for approval in details.pending
    )
    response.deliveries.waiting.extend(delivery_to_proto(delivery) for delivery in details.waiting)
    response.executions.hours.extend(
        figures_pb.ExecutionHour(
            start_time=to_timestamp(start),
            executions=[
                figures_pb.ExecutionOutcomeCount(
                    outcome=figures_pb.ExecutionOutcome.Value(f"EXECUTION_OUTCOME_{outcome}"), count=count
                )
                for outcome, count in counts.items()
            ],
        )
        for start, counts in details.hours.items()
    )


def _executions(figures: ApprovalFigures, min_samples: int) -> figures_pb.ExecutionStats:
    window = Duration()
    window.FromTimedelta(WINDOW)
    enough = figures.samples >= min_samples
    return figures_pb.ExecutionStats(
        success_rate=figures.successes / figures.samples if enough else None,
        samples=figures.samples,
        successes=figures.successes,
        min_samples=min_samples,
        window=window,
        executions_total=[
            figures_pb.ExecutionOutcomeCount(
                outcome=figures_pb.ExecutionOutcome.Value(f"EXECUTION_OUTCOME_{outcome}"),
                count=figures.executions.get(outcome, 0),
            )
            for outcome in ExecutionOutcome
        ],
        noop_executions_total=figures.executions.get(ExecutionOutcome.NOOP, 0),
        noop_resolutions_total=figures.noop_resolutions,
    )
