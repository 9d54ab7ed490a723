"""Responses with the full view: a healthy loop, a stuck one, an empty one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.approval.v1.approval_pb2 import Approval, Delivery, Risk
from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from awoooi.incident.v1.incident_pb2 import Incident, ResolutionType, Severity, SideEffect

NOW = datetime(2026, 5, 7, 3, 12, 5, tzinfo=UTC)

_TITLES = (
    "api p99 latency above 2 s",
    "disk of db-1 is nearly full",
    "checkout error rate above 5 %",
    "queue mail-out grows",
    "pod search-7f9c restarts every minute",
    "certificate of shop.example expires in 3 days",
    "replica db-2 lags by 40 s",
)


def ago(**time: float) -> Timestamp:
    """A time before NOW."""
    stamp = Timestamp()
    stamp.FromDatetime(NOW - timedelta(**time))
    return stamp


def ahead(**time: float) -> Timestamp:
    """A time after NOW."""
    return ago(**{unit: -number for unit, number in time.items()})


def identity(kind: str, number: int) -> str:
    """An id in the format of the services."""
    return f"{kind}-20260507-{0x99ADF2 + number * 0x1357:06X}"


def _hours() -> Sequence[Timestamp]:
    """The beginnings of the last 24 hours, oldest first."""
    return [ago(hours=hour, minutes=NOW.minute, seconds=NOW.second) for hour in range(23, -1, -1)]


def _incident_hours(opened: Sequence[int], resolved: Sequence[int]) -> list[stats.IncidentHour]:
    return [
        stats.IncidentHour(start_time=start, opened=came, resolved=went)
        for start, came, went in zip(_hours(), opened, resolved, strict=True)
    ]


def _execution_hours(*outcomes: Sequence[int]) -> list[stats.ExecutionHour]:
    """The hours with their counts of succeeded, failed and NO_ACTION executions."""
    numbers = (
        stats.EXECUTION_OUTCOME_SUCCEEDED,
        stats.EXECUTION_OUTCOME_FAILED,
        stats.EXECUTION_OUTCOME_NOOP,
    )
    return [
        stats.ExecutionHour(
            start_time=start,
            executions=[
                stats.ExecutionOutcomeCount(outcome=outcome, count=count)
                for outcome, count in zip(numbers, counts, strict=True)
            ],
        )
        for start, *counts in zip(_hours(), *outcomes, strict=True)
    ]


def incidents_well() -> GetFlywheelStatsResponse:
    """The incident service on a quiet day."""
    opened = [5, 6, 9, 1, 8, 4, 1, 3, 2, 6, 8, 4, 7, 9, 2, 4, 1, 4, 7, 3, 5, 7, 3, 1]
    resolved = [5, 7, 7, 2, 7, 5, 2, 4, 3, 6, 7, 5, 6, 9, 3, 4, 1, 4, 7, 2, 6, 7, 4, 1]
    return GetFlywheelStatsResponse(
        read_time=ago(),
        incidents=stats.IncidentStats(
            incidents=[
                stats.IncidentStateCount(state=Incident.STATE_OPEN, count=2),
                stats.IncidentStateCount(state=Incident.STATE_INVESTIGATING, count=3),
            ],
            stuck_after=Duration(seconds=1_800),
            hours=_incident_hours(opened, resolved),
        ),
        resolutions=stats.ResolutionStats(
            postmortems_24h=[
                stats.ResolutionTypeCount(resolution_type=ResolutionType.RESOLUTION_TYPE_NO_ACTION, count=7)
            ],
        ),
        side_effects=stats.SideEffectStats(
            side_effects=[
                stats.SideEffectCount(
                    effect=SideEffect.EFFECT_WEBHOOK, state=SideEffect.STATE_PENDING, count=1
                )
            ],
            oldest_pending_seconds=2.0,
            waiting=[
                SideEffect(
                    incident_id=identity("INC", 61),
                    effect=SideEffect.EFFECT_WEBHOOK,
                    state=SideEffect.STATE_PENDING,
                    create_time=ago(seconds=2),
                    next_attempt_time=ahead(seconds=3),
                )
            ],
        ),
    )


def approvals_well() -> GetFlywheelStatsResponse:
    """The approval service on a quiet day."""
    succeeded = [4, 0, 3, 2, 0, 0, 1, 4, 3, 2, 2, 0, 2, 3, 1, 3, 4, 4, 0, 1, 4, 4, 2, 1]
    failed = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    observed = [2, 1, 3, 2, 2, 0, 0, 1, 0, 2, 2, 1, 3, 3, 1, 1, 1, 0, 1, 1, 0, 2, 2, 0]
    samples = sum(succeeded) + sum(failed)
    return GetFlywheelStatsResponse(
        read_time=ago(),
        executions=stats.ExecutionStats(
            success_rate=sum(succeeded) / samples,
            samples=samples,
            successes=sum(succeeded),
            min_samples=10,
            window=Duration(seconds=86_400),
            noop_executions_total=1_204,
            noop_resolutions_total=1_204,
            hours=_execution_hours(succeeded, failed, observed),
        ),
        recoveries=stats.RecoveryStats(
            recovery_rate=1.0,
            samples=38,
            verified=38,
            min_samples=10,
            window=Duration(seconds=86_400),
            pending=2,
        ),
        approvals=stats.ApprovalStats(
            approvals=[stats.ApprovalStateCount(state=Approval.STATE_PENDING, count=2)],
            oldest_pending_seconds=412.0,
            pending=[
                stats.PendingApproval(
                    approval_id=identity("APR", 3),
                    incident_id=identity("INC", 11),
                    action="SCALE deployment/api --replicas=3 -n prod",
                    risk=Risk.RISK_MEDIUM,
                    create_time=ago(seconds=412),
                    expire_time=ahead(hours=23, minutes=53),
                ),
                stats.PendingApproval(
                    approval_id=identity("APR", 4),
                    incident_id=identity("INC", 12),
                    action="NO_ACTION: observe first",
                    risk=Risk.RISK_LOW,
                    create_time=ago(seconds=38),
                    expire_time=ahead(hours=23, minutes=59),
                ),
            ],
        ),
        deliveries=stats.DeliveryStats(),
    )


def incidents_stuck() -> GetFlywheelStatsResponse:
    """The incident service in the night of INC-20260507-99ADF2: one more stuck incident every 30 s."""
    response = incidents_well()
    response.incidents.CopyFrom(
        stats.IncidentStats(
            incidents=[
                stats.IncidentStateCount(state=Incident.STATE_OPEN, count=4),
                stats.IncidentStateCount(state=Incident.STATE_INVESTIGATING, count=612),
            ],
            stuck=566,
            stuck_by_reason=[
                stats.StuckReasonCount(reason=stats.STUCK_REASON_EXECUTED_NOT_RESOLVED, count=559),
                stats.StuckReasonCount(reason=stats.STUCK_REASON_NO_APPROVAL, count=4),
                stats.StuckReasonCount(reason=stats.STUCK_REASON_APPROVAL_PENDING, count=3),
                stats.StuckReasonCount(reason=stats.STUCK_REASON_EXECUTION_FAILED, count=0),
            ],
            stuck_after=Duration(seconds=1_800),
            stuck_incidents=[
                stats.StuckIncident(
                    incident_id=identity("INC", number),
                    title=_TITLES[number % len(_TITLES)],
                    severity=Severity.ValueType(1 + number % 5),
                    state=Incident.STATE_INVESTIGATING,
                    reason=stats.STUCK_REASON_NO_APPROVAL
                    if number % 6 == 4
                    else stats.STUCK_REASON_EXECUTED_NOT_RESOLVED,
                    last_progress_time=ago(minutes=312 - number * 0.5),
                )
                for number in range(20)
            ],
            hours=_incident_hours(
                [4, 3, 5, 2, 6, 3, 4, 2, 5, 4, 3, 6, 2, 4, 5, 3, 6, 2, 118, 121, 117, 119, 118, 24],
                [4, 3, 5, 2, 5, 4, 4, 2, 5, 4, 3, 5, 3, 4, 5, 3, 5, 2, 3, 1, 0, 2, 0, 0],
            ),
        )
    )
    response.side_effects.CopyFrom(
        stats.SideEffectStats(
            side_effects=[
                stats.SideEffectCount(
                    effect=SideEffect.EFFECT_WEBHOOK, state=SideEffect.STATE_PARKED, count=2
                ),
                stats.SideEffectCount(
                    effect=SideEffect.EFFECT_NOTIFICATION, state=SideEffect.STATE_PENDING, count=1
                ),
            ],
            oldest_pending_seconds=21.0,
            waiting=[
                SideEffect(
                    incident_id=identity("INC", 70 + number),
                    effect=effect,
                    state=state,
                    attempts=attempts,
                    last_error=error,
                    create_time=ago(minutes=minutes),
                    next_attempt_time=ahead(seconds=40) if state == SideEffect.STATE_PENDING else None,
                )
                for number, (effect, state, attempts, error, minutes) in enumerate(
                    [
                        (SideEffect.EFFECT_WEBHOOK, SideEffect.STATE_PARKED, 1, "410 Gone", 94),
                        (SideEffect.EFFECT_WEBHOOK, SideEffect.STATE_PARKED, 1, "410 Gone", 71),
                        (
                            SideEffect.EFFECT_NOTIFICATION,
                            SideEffect.STATE_PENDING,
                            3,
                            "the mail server closed the connection",
                            0.35,
                        ),
                    ]
                )
            ],
        )
    )
    return response


def approvals_stuck() -> GetFlywheelStatsResponse:
    """The approval service in that night."""
    response = approvals_well()
    executions = response.executions
    executions.ClearField("success_rate")
    executions.samples, executions.successes = 3, 3
    executions.noop_executions_total, executions.noop_resolutions_total = 1_770, 1_204
    del executions.hours[:]
    executions.hours.extend(
        _execution_hours(
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0],
            [0] * 24,
            [2, 1, 2, 0, 3, 1, 2, 0, 2, 2, 1, 3, 0, 2, 2, 1, 3, 0, 113, 115, 112, 114, 113, 23],
        )
    )
    response.approvals.approvals[0].count = 3
    response.approvals.oldest_pending_seconds = 2_920.0
    response.approvals.pending[0].create_time.CopyFrom(ago(seconds=2_920))
    response.deliveries.CopyFrom(
        stats.DeliveryStats(
            deliveries=[
                stats.DeliveryStateCount(state=Delivery.STATE_PENDING, count=5),
                stats.DeliveryStateCount(state=Delivery.STATE_PARKED, count=1),
            ],
            oldest_pending_seconds=431.0,
            waiting=[
                Delivery(
                    delivery_id="parked",
                    incident_id=identity("INC", 40),
                    approval_id=identity("APR", 40),
                    state=Delivery.STATE_PARKED,
                    attempts=1,
                    last_error="incident not found",
                    create_time=ago(hours=4, minutes=2),
                ),
                *(
                    Delivery(
                        delivery_id=f"pending-{number}",
                        incident_id=identity("INC", 41 + number),
                        approval_id=identity("APR", 41 + number),
                        state=Delivery.STATE_PENDING,
                        attempts=6 - number,
                        last_error="UNAVAILABLE: the database is starting up",
                        create_time=ago(seconds=431 - 60 * number),
                        next_attempt_time=ahead(seconds=8 + number),
                    )
                    for number in range(5)
                ),
            ],
        )
    )
    return response


def incidents_empty() -> GetFlywheelStatsResponse:
    """The incident service with an empty database."""
    return GetFlywheelStatsResponse(
        read_time=ago(),
        incidents=stats.IncidentStats(
            incidents=[stats.IncidentStateCount(state=Incident.STATE_OPEN)],
            stuck_after=Duration(seconds=1_800),
            hours=_incident_hours([0] * 24, [0] * 24),
        ),
        resolutions=stats.ResolutionStats(),
        side_effects=stats.SideEffectStats(),
    )


def approvals_empty() -> GetFlywheelStatsResponse:
    """The approval service with an empty database."""
    return GetFlywheelStatsResponse(
        read_time=ago(),
        executions=stats.ExecutionStats(
            min_samples=10,
            window=Duration(seconds=86_400),
            hours=_execution_hours([0] * 24, [0] * 24, [0] * 24),
        ),
        recoveries=stats.RecoveryStats(min_samples=10, window=Duration(seconds=86_400)),
        approvals=stats.ApprovalStats(),
        deliveries=stats.DeliveryStats(),
    )
