"""Conditions of the loop that the page reports, and their thresholds.

The thresholds are those of the alert rules in deploy/prometheus/rules. Rules also use the past (how long? is it growing?),
which a single reading does not have: a condition may hold before its alert fires, never the reverse.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum

from awoooi.approval.v1.approval_pb2 import Delivery
from awoooi.flywheel.v1.flywheel_stats_pb2 import (
    ApprovalStats,
    DeliveryStats,
    DeliveryTopicStats,
    ExecutionStats,
    RecoveryStats,
    ResolutionStats,
    SideEffectStats,
)
from awoooi.incident.v1.incident_pb2 import ResolutionType, SideEffect
from metrics_gateway.page.sections import Known, Sections

MIN_SUCCESS_RATE = 0.8
MAX_DELIVERY_AGE_SECONDS = 300
MAX_SIDE_EFFECT_AGE_SECONDS = 300
MAX_APPROVAL_AGE_SECONDS = 1_800
MAX_RECOVERY_OVERDUE_SECONDS = 300
MAX_NO_ACTION_POSTMORTEMS = 20


class Level(IntEnum):
    """Severity of a condition."""

    WELL = 0
    WATCH = 1  # Needs attention, not now.
    WRONG = 2


def rate_is_missing(stats: ExecutionStats) -> bool:
    """Whether there are enough samples for a success rate and still there is none."""
    return not stats.HasField("success_rate") and stats.samples >= stats.min_samples


def rate_is_low(stats: ExecutionStats) -> bool:
    """Whether there is a success rate, and it is too low."""
    return stats.HasField("success_rate") and stats.success_rate < MIN_SUCCESS_RATE


def delivery_is_old(stats: DeliveryStats) -> bool:
    """Whether a resolve has been pending for too long."""
    return stats.oldest_pending_seconds > MAX_DELIVERY_AGE_SECONDS


def side_effect_is_old(stats: SideEffectStats) -> bool:
    """Whether a side effect has been pending for too long."""
    return stats.oldest_pending_seconds > MAX_SIDE_EFFECT_AGE_SECONDS


def approval_is_old(stats: ApprovalStats) -> bool:
    """Whether an approval has been pending for too long."""
    return stats.oldest_pending_seconds > MAX_APPROVAL_AGE_SECONDS


def not_recovered(stats: RecoveryStats) -> int:
    """Return the number of repairs of the window that did not help."""
    return max(stats.samples - stats.verified, 0)


def recovery_is_overdue(stats: RecoveryStats) -> bool:
    """Whether it should have been known for too long whether a repair has helped."""
    return stats.overdue_seconds > MAX_RECOVERY_OVERDUE_SECONDS


def no_action_postmortems(stats: ResolutionStats) -> int:
    """Return the number of NO_ACTION postmortems of the last 24 hours."""
    return sum(
        entry.count
        for entry in stats.postmortems_24h
        if entry.resolution_type == ResolutionType.RESOLUTION_TYPE_NO_ACTION
    )


def open_deliveries(stats: DeliveryStats) -> tuple[int, int]:
    """Return the numbers of pending and of parked resolves."""
    counts = {entry.state: entry.count for entry in stats.deliveries}
    return counts.get(Delivery.STATE_PENDING, 0), counts.get(Delivery.STATE_PARKED, 0)


def parked_by_topic(stats: DeliveryStats) -> Mapping[int, int]:
    """Return the number of parked deliveries of each topic but RESOLVE that has any."""
    counts = {topic.topic: _parked(topic) for topic in _other_topics(stats)}
    return {topic: count for topic, count in counts.items() if count}


def oldest_by_topic(stats: DeliveryStats) -> Mapping[int, float]:
    """Return the age of the oldest pending delivery of each topic but RESOLVE where one has waited for too long."""
    return {
        topic.topic: topic.oldest_pending_seconds
        for topic in _other_topics(stats)
        if topic.oldest_pending_seconds > MAX_DELIVERY_AGE_SECONDS
    }


def open_of_every_topic(stats: DeliveryStats) -> tuple[int, int]:
    """Return the numbers of pending and of parked deliveries, those of all topics together."""
    pending, parked = open_deliveries(stats)
    others = _other_topics(stats)
    return (
        pending + sum(_count(topic, Delivery.STATE_PENDING) for topic in others),
        parked + sum(_parked(topic) for topic in others),
    )


def oldest_of_every_topic(stats: DeliveryStats) -> float:
    """Return the age of the oldest pending delivery of any topic; 0 when there is none."""
    return max([stats.oldest_pending_seconds, *(topic.oldest_pending_seconds for topic in stats.topics)])


def _other_topics(stats: DeliveryStats) -> Sequence[DeliveryTopicStats]:
    return [topic for topic in stats.topics if topic.topic != Delivery.TOPIC_RESOLVE]


def _parked(topic: DeliveryTopicStats) -> int:
    return _count(topic, Delivery.STATE_PARKED)


def _count(topic: DeliveryTopicStats, state: Delivery.State.ValueType) -> int:
    return sum(entry.count for entry in topic.deliveries if entry.state == state)


def open_side_effects(stats: SideEffectStats) -> tuple[int, int]:
    """Return the numbers of pending and of parked side effects, all effects together."""

    def total(state: SideEffect.State.ValueType) -> int:
        return sum(entry.count for entry in stats.side_effects if entry.state == state)

    return total(SideEffect.STATE_PENDING), total(SideEffect.STATE_PARKED)


def lost_resolves(sections: Sections) -> int:
    """Return the number of NO_ACTION executions whose incident is not resolved and has no open delivery either."""
    if not isinstance(sections.executions, Known) or not isinstance(sections.deliveries, Known):
        return 0
    stats = sections.executions.stats
    missing = stats.noop_executions_total - stats.noop_resolutions_total
    return max(0, missing - sum(open_deliveries(sections.deliveries.stats)))
