"""The stats as the sections of GetFlywheelStats. Every value of an enum is there, 0 included."""

import collections
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration

from approval.delivery.mapping import DELIVERY_STATES, DELIVERY_TOPICS, delivery_to_proto
from approval.delivery.model import DeliveryState, DeliveryTopic
from approval.model import ExecutionOutcome, Recovery, State
from approval.stats.model import WINDOW, ApprovalStats, ApprovalStatsDetails, RecoveryStats, TopicStats
from approval.wire_enums import RECOVERIES, RISKS, STATES
from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats_pb
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb
from servicekit.process.build import Build
from servicekit.rpc.mapping import WireEnum
from servicekit.rpc.timestamps import to_timestamp

_OUTCOMES = WireEnum(ExecutionOutcome, "EXECUTION_OUTCOME", stats_pb.ExecutionOutcome.Value)
# Limits by their names in the series of a server.
_LIMITS = {
    name.removeprefix("SERVER_LIMIT_").lower(): number
    for name, number in stats_pb.ServerLimit.items()
    if number
}
_IDENTITY_SOURCES = {
    name.removeprefix("IDENTITY_SOURCE_").lower(): number for name, number in stats_pb.IdentitySource.items()
}


def stats_to_proto(stats: ApprovalStats, *, min_samples: int) -> pb.GetFlywheelStatsResponse:
    """Return the response with the approval service's sections."""
    response = pb.GetFlywheelStatsResponse(
        read_time=to_timestamp(stats.read_time),
        executions=_executions(stats, min_samples),
        approvals=stats_pb.ApprovalStats(
            approvals=[
                stats_pb.ApprovalStateCount(
                    state=STATES.to_wire(state),
                    count=stats.approvals.get(state, 0),
                )
                for state in State
            ],
            oldest_pending_seconds=stats.approval_oldest_pending_seconds,
            incident_unknown=stats.approvals_incident_unknown,
            superseded_total=stats.approvals_superseded,
        ),
        deliveries=_deliveries(stats.deliveries),
        recoveries=_recoveries(stats.recoveries, min_samples),
    )
    if stats.details is not None:
        _add_details(response, stats.details)
    return response


def _deliveries(topics: Mapping[DeliveryTopic, TopicStats]) -> stats_pb.DeliveryStats:
    resolves = topics[DeliveryTopic.RESOLVE]
    return stats_pb.DeliveryStats(
        deliveries=_open(resolves),
        oldest_pending_seconds=resolves.oldest_pending_seconds,
        topics=[
            stats_pb.DeliveryTopicStats(
                topic=DELIVERY_TOPICS.to_wire(topic),
                deliveries=_open(stats),
                oldest_pending_seconds=stats.oldest_pending_seconds,
                dismissed_total=stats.dismissed,
            )
            for topic, stats in topics.items()
        ],
    )


def _open(topic: TopicStats) -> list[stats_pb.DeliveryStateCount]:
    return [
        stats_pb.DeliveryStateCount(state=DELIVERY_STATES.to_wire(state), count=topic.open.get(state, 0))
        for state in (DeliveryState.PENDING, DeliveryState.PARKED)
    ]


def _add_details(response: pb.GetFlywheelStatsResponse, details: ApprovalStatsDetails) -> None:
    response.approvals.pending.extend(
        stats_pb.PendingApproval(
            approval_id=approval.approval_id,
            incident_id=approval.incident_id,
            action=approval.action,
            risk=RISKS.to_wire(approval.risk),
            create_time=to_timestamp(approval.create_time),
            expire_time=to_timestamp(approval.expire_time),
        )
        for approval in details.pending
    )
    response.deliveries.waiting.extend(delivery_to_proto(delivery) for delivery in details.waiting)
    response.executions.hours.extend(
        stats_pb.ExecutionHour(
            start_time=to_timestamp(start),
            executions=[
                stats_pb.ExecutionOutcomeCount(
                    outcome=_OUTCOMES.to_wire(ExecutionOutcome(outcome)), count=count
                )
                for outcome, count in counts.items()
            ],
        )
        for start, counts in details.hours.items()
    )


def _executions(stats: ApprovalStats, min_samples: int) -> stats_pb.ExecutionStats:
    window = Duration()
    window.FromTimedelta(WINDOW)
    enough = stats.samples >= min_samples
    return stats_pb.ExecutionStats(
        success_rate=stats.successes / stats.samples if enough else None,
        samples=stats.samples,
        successes=stats.successes,
        min_samples=min_samples,
        window=window,
        executions_total=[
            stats_pb.ExecutionOutcomeCount(
                outcome=_OUTCOMES.to_wire(outcome),
                count=stats.executions.get(outcome, 0),
            )
            for outcome in ExecutionOutcome
        ],
        noop_executions_total=stats.executions.get(ExecutionOutcome.NOOP, 0),
        noop_resolutions_total=stats.noop_resolutions,
    )


def _recoveries(stats: RecoveryStats, min_samples: int) -> stats_pb.RecoveryStats:
    window = Duration()
    window.FromTimedelta(WINDOW)
    enough = stats.samples >= min_samples
    return stats_pb.RecoveryStats(
        recovery_rate=stats.verified / stats.samples if enough else None,
        samples=stats.samples,
        verified=stats.verified,
        min_samples=min_samples,
        window=window,
        recoveries_total=[
            stats_pb.RecoveryCount(
                recovery=RECOVERIES.to_wire(recovery), count=stats.recoveries.get(recovery, 0)
            )
            for recovery in Recovery
            if recovery is not Recovery.PENDING
        ],
        pending=stats.pending,
        overdue_seconds=stats.overdue_seconds,
    )


def server_to_proto(
    refused: Mapping[str, int], unusable: Collection[str], build: Build, *, database_revision: str
) -> stats_pb.ServerStats:
    """Return the section about this process.

    `refused` has what each limit of its server refused, `unusable` what identities cannot be verified by, both by name.
    """
    counts: collections.Counter[stats_pb.ServerLimit.ValueType] = collections.Counter()
    for name, count in refused.items():
        counts[_LIMITS.get(name, stats_pb.SERVER_LIMIT_UNSPECIFIED)] += count
    return stats_pb.ServerStats(
        refused_total=[
            stats_pb.ServerRefusalCount(limit=limit, count=count) for limit, count in counts.items()
        ],
        unusable_identity_sources=[
            _IDENTITY_SOURCES.get(name, stats_pb.IDENTITY_SOURCE_UNSPECIFIED) for name in sorted(unusable)
        ],
        version=build.version,
        database_revision=database_revision,
        code_revision=build.revision,
        process_time=to_timestamp(datetime.now(UTC)),
    )
