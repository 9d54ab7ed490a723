"""Responses of healthy services: every section filled, every value distinct."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.approval.v1.approval_pb2 import Approval, Delivery, Recovery
from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from awoooi.incident.v1.incident_pb2 import Incident, ResolutionType, Severity, SideEffect

READ_TIME = Timestamp(seconds=1_780_000_000)

# Upper bounds in seconds, cumulative counts.
_BOUNDS: Sequence[tuple[float, int]] = ((60.0, 3), (300.0, 5), (3600.0, 8))


def approval_response() -> GetFlywheelStatsResponse:
    """The approval service: the rate is not withheld, one delivery is pending."""
    return GetFlywheelStatsResponse(
        read_time=READ_TIME,
        server=_server(),
        executions=stats.ExecutionStats(
            success_rate=0.75,
            samples=20,
            successes=15,
            min_samples=10,
            executions_total=[
                stats.ExecutionOutcomeCount(outcome=stats.EXECUTION_OUTCOME_SUCCEEDED, count=40),
                stats.ExecutionOutcomeCount(outcome=stats.EXECUTION_OUTCOME_FAILED, count=7),
                stats.ExecutionOutcomeCount(outcome=stats.EXECUTION_OUTCOME_NOOP, count=566),
                stats.ExecutionOutcomeCount(outcome=stats.EXECUTION_OUTCOME_INDETERMINATE, count=1),
            ],
            noop_executions_total=566,
            noop_resolutions_total=565,
        ),
        recoveries=stats.RecoveryStats(
            recovery_rate=0.875,
            samples=16,
            verified=14,
            min_samples=10,
            recoveries_total=[
                stats.RecoveryCount(recovery=Recovery.RECOVERY_VERIFIED, count=31),
                stats.RecoveryCount(recovery=Recovery.RECOVERY_NOT_RECOVERED, count=6),
                stats.RecoveryCount(recovery=Recovery.RECOVERY_UNVERIFIED, count=3),
            ],
            pending=19,
            overdue_seconds=1.75,
        ),
        approvals=stats.ApprovalStats(
            approvals=[
                stats.ApprovalStateCount(state=Approval.STATE_PENDING, count=3),
                stats.ApprovalStateCount(state=Approval.STATE_SUCCEEDED, count=606),
            ],
            oldest_pending_seconds=61.5,
            incident_unknown=26,
            superseded_total=27,
        ),
        deliveries=stats.DeliveryStats(
            deliveries=[
                stats.DeliveryStateCount(state=Delivery.STATE_PENDING, count=1),
                stats.DeliveryStateCount(state=Delivery.STATE_PARKED, count=2),
            ],
            oldest_pending_seconds=4.25,
            topics=[
                _topic(Delivery.TOPIC_RESOLVE, pending=1, parked=2, oldest=4.25, dismissed=5),
                _topic(Delivery.TOPIC_TIMELINE, pending=7, parked=8, oldest=9.5, dismissed=10),
                _topic(Delivery.TOPIC_EXECUTION, pending=11, parked=12, oldest=13.5, dismissed=14),
                _topic(Delivery.TOPIC_NOTIFICATION, pending=19, parked=20, oldest=21.5, dismissed=22),
                _topic(Delivery.TOPIC_OTHER, pending=15, parked=16, oldest=17.5, dismissed=18),
            ],
        ),
    )


def _server() -> stats.ServerStats:
    return stats.ServerStats(
        refused_total=[
            stats.ServerRefusalCount(limit=stats.SERVER_LIMIT_CALLS, count=0),
            stats.ServerRefusalCount(limit=stats.SERVER_LIMIT_WRITE_TIME, count=3),
        ],
        unusable_identity_sources=[stats.IDENTITY_SOURCE_TOKENS],
    )


def _topic(
    topic: Delivery.Topic.ValueType, *, pending: int, parked: int, oldest: float, dismissed: int
) -> stats.DeliveryTopicStats:
    return stats.DeliveryTopicStats(
        topic=topic,
        deliveries=[
            stats.DeliveryStateCount(state=Delivery.STATE_PENDING, count=pending),
            stats.DeliveryStateCount(state=Delivery.STATE_PARKED, count=parked),
        ],
        oldest_pending_seconds=oldest,
        dismissed_total=dismissed,
    )


def incident_response() -> GetFlywheelStatsResponse:
    """The incident service."""
    return GetFlywheelStatsResponse(
        read_time=READ_TIME,
        incidents=stats.IncidentStats(
            incidents=[
                stats.IncidentStateCount(state=Incident.STATE_OPEN, count=4),
                stats.IncidentStateCount(state=Incident.STATE_INVESTIGATING, count=566),
            ],
            stuck=567,
            stuck_by_reason=[
                stats.StuckReasonCount(reason=stats.STUCK_REASON_NO_APPROVAL, count=1),
                stats.StuckReasonCount(reason=stats.STUCK_REASON_EXECUTED_NOT_RESOLVED, count=566),
            ],
            opened_total=[
                stats.SeverityCount(severity=Severity.SEVERITY_CRITICAL, count=70),
                stats.SeverityCount(severity=Severity.SEVERITY_INFO, count=508),
            ],
        ),
        resolutions=stats.ResolutionStats(
            resolved_total=[
                stats.ResolutionTypeCount(resolution_type=ResolutionType.RESOLUTION_TYPE_NO_ACTION, count=8),
            ],
            resolution_seconds=stats.Histogram(
                buckets=[
                    stats.Histogram.Bucket(upper_bound=bound, cumulative_count=count)
                    for bound, count in _BOUNDS
                ],
                count=9,
                sum=9001.5,
            ),
            postmortems_24h=[
                stats.ResolutionTypeCount(resolution_type=ResolutionType.RESOLUTION_TYPE_NO_ACTION, count=21),
            ],
        ),
        side_effects=stats.SideEffectStats(
            side_effects=[
                stats.SideEffectCount(
                    effect=SideEffect.EFFECT_POSTMORTEM, state=SideEffect.STATE_PENDING, count=6
                ),
                stats.SideEffectCount(
                    effect=SideEffect.EFFECT_WEBHOOK, state=SideEffect.STATE_PARKED, count=2
                ),
            ],
            oldest_pending_seconds=12.0,
            dismissed_total=[stats.EffectCount(effect=SideEffect.EFFECT_WEBHOOK, count=3)],
        ),
    )
