"""What is wrong with the loop right now, worst first.

The thresholds are those of the alert rules in deploy/prometheus/rules. Rules also look at the past (for how long? does it
grow?), which a single look at the figures cannot: a finding may be there before its alert fires, never the other way round.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from awoooi.approval.v1.approval_pb2 import Delivery
from awoooi.flywheel.v1.flywheel_stats_pb2 import (
    ApprovalStats,
    DeliveryStats,
    ExecutionStats,
    IncidentStats,
    ResolutionStats,
    SideEffectStats,
)
from awoooi.incident.v1.incident_pb2 import ResolutionType, SideEffect
from metrics_gateway.page.formatting import count, counted, duration
from metrics_gateway.page.sections import Known, Sections, why_down
from metrics_gateway.sources.source import Reading

LOWEST_RATE = 0.8
OLDEST_DELIVERY_SECONDS = 300
OLDEST_SIDE_EFFECT_SECONDS = 300
OLDEST_APPROVAL_SECONDS = 1_800
MOST_NO_ACTION_POSTMORTEMS = 20


class Level(IntEnum):
    """How bad it is; the higher the worse."""

    WELL = 0
    WATCH = 1  # Somebody should look, not now.
    WRONG = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    level: Level
    # A sentence without its full stop.
    text: str
    # The part of the page that tells more.
    anchor: str
    # The alert that watches the same: its name finds the runbook's entry. Empty when there is none.
    alert: str = ""


def find(readings: Sequence[Reading], sections: Sections, now: datetime) -> Sequence[Finding]:
    """Return what is wrong, worst first. What is unknown is wrong too, once for each source and not for each section."""
    down = [reading for reading in readings if reading.answer is None]
    found = [
        Finding(Level.WRONG, _sentence(why_down(reading, now)), "sources", "FlywheelSourceDown")
        for reading in down
    ]
    for name, look in _LOOKS:
        section = getattr(sections, name)
        if isinstance(section, Known):
            found += look(section.stats)
        elif not down:
            text = f"No source keeps figures about {name.replace('_', ' ')}"
            found.append(Finding(Level.WATCH, text, "sources"))
    found += _gap(sections)
    return sorted(found, key=lambda finding: -finding.level)


def rate_is_missing(stats: ExecutionStats) -> bool:
    """Whether there are executions enough for a success rate and still none is given."""
    return not stats.HasField("success_rate") and stats.samples >= stats.min_samples


def open_deliveries(stats: DeliveryStats) -> tuple[int, int]:
    """Return how many deliveries wait and how many are parked."""
    counts = {entry.state: entry.count for entry in stats.deliveries}
    return counts.get(Delivery.STATE_PENDING, 0), counts.get(Delivery.STATE_PARKED, 0)


def open_side_effects(stats: SideEffectStats) -> tuple[int, int]:
    """Return how many side effects wait and how many are parked, of all effects together."""

    def total(state: SideEffect.State.ValueType) -> int:
        return sum(entry.count for entry in stats.side_effects if entry.state == state)

    return total(SideEffect.STATE_PENDING), total(SideEffect.STATE_PARKED)


def lost_resolves(sections: Sections) -> int:
    """Return for how many NO_ACTION executions the incident was not resolved, and no resolve waits or is parked either."""
    if not isinstance(sections.executions, Known) or not isinstance(sections.deliveries, Known):
        return 0
    stats = sections.executions.stats
    missing = stats.noop_executions_total - stats.noop_resolutions_total
    return max(0, missing - sum(open_deliveries(sections.deliveries.stats)))


def _incidents(stats: IncidentStats) -> Iterator[Finding]:
    if stats.stuck:
        text = counted(stats.stuck, "incident is stuck", "incidents are stuck")
        yield Finding(Level.WRONG, text, "stuck", "FlywheelIncidentsStuckGrowing")


def _deliveries(stats: DeliveryStats) -> Iterator[Finding]:
    _, parked = open_deliveries(stats)
    if parked:
        text = counted(parked, "resolve is parked", "resolves are parked")
        yield Finding(
            Level.WRONG, f"{text} and will not be delivered", "deliveries", "FlywheelResolveDeliveryParked"
        )
    if stats.oldest_pending_seconds > OLDEST_DELIVERY_SECONDS:
        text = f"A resolve has waited for delivery for {duration(stats.oldest_pending_seconds)}"
        yield Finding(Level.WRONG, text, "deliveries", "FlywheelResolveDeliveryOld")


def _side_effects(stats: SideEffectStats) -> Iterator[Finding]:
    _, parked = open_side_effects(stats)
    if parked:
        text = counted(parked, "side effect is parked", "side effects are parked")
        yield Finding(Level.WRONG, f"{text} and will not run", "side-effects", "FlywheelSideEffectParked")
    if stats.oldest_pending_seconds > OLDEST_SIDE_EFFECT_SECONDS:
        text = f"A side effect has waited for {duration(stats.oldest_pending_seconds)}"
        yield Finding(Level.WRONG, text, "side-effects", "FlywheelSideEffectOld")


def _executions(stats: ExecutionStats) -> Iterator[Finding]:
    if rate_is_missing(stats):
        text = f"There is no success rate, although there are {count(stats.samples)} repairs"
        yield Finding(Level.WRONG, text, "figures", "FlywheelExecutionRateMissing")
    elif stats.HasField("success_rate") and stats.success_rate < LOWEST_RATE:
        text = f"Only {count(stats.successes)} of {counted(stats.samples, 'repair', 'repairs')} worked"
        yield Finding(Level.WRONG, text, "figures", "FlywheelExecutionRateLow")


def _approvals(stats: ApprovalStats) -> Iterator[Finding]:
    if stats.oldest_pending_seconds > OLDEST_APPROVAL_SECONDS:
        text = f"An approval has waited for a decision for {duration(stats.oldest_pending_seconds)}"
        yield Finding(Level.WATCH, text, "approvals", "FlywheelApprovalWaiting")


def _resolutions(stats: ResolutionStats) -> Iterator[Finding]:
    postmortems = sum(
        entry.count
        for entry in stats.postmortems_24h
        if entry.resolution_type == ResolutionType.RESOLUTION_TYPE_NO_ACTION
    )
    if postmortems > MOST_NO_ACTION_POSTMORTEMS:
        text = f"{count(postmortems)} NO_ACTION postmortems were written in 24 h"
        yield Finding(Level.WATCH, text, "figures", "FlywheelNoActionPostmortemFlood")


def _gap(sections: Sections) -> Iterator[Finding]:
    lost = lost_resolves(sections)
    if lost:
        text = (
            counted(lost, "NO_ACTION execution left its", "NO_ACTION executions left their")
            + " incident open"
        )
        yield Finding(Level.WRONG, text, "figures", "FlywheelNoopResolutionGap")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


_Look = Callable[..., Iterator[Finding]]
# In the order in which equally bad things are named.
_LOOKS: Sequence[tuple[str, _Look]] = (
    ("incidents", _incidents),
    ("deliveries", _deliveries),
    ("side_effects", _side_effects),
    ("executions", _executions),
    ("approvals", _approvals),
    ("resolutions", _resolutions),
)
