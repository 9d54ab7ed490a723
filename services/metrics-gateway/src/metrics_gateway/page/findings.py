"""The list of current problems, worst first, for the headline of the page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from awoooi.flywheel.v1.flywheel_stats_pb2 import (
    ApprovalStats,
    DeliveryStats,
    ExecutionStats,
    IncidentStats,
    RecoveryStats,
    ResolutionStats,
    SideEffectStats,
)
from metrics_gateway.page.conditions import (
    MAX_NO_ACTION_POSTMORTEMS,
    Level,
    approval_is_old,
    delivery_is_old,
    lost_resolves,
    no_action_postmortems,
    not_recovered,
    oldest_by_topic,
    open_deliveries,
    open_side_effects,
    parked_by_topic,
    rate_is_low,
    rate_is_missing,
    recovery_is_overdue,
    side_effect_is_old,
)
from metrics_gateway.page.formatting import OTHER_TOPIC, TOPICS, count, counted, duration
from metrics_gateway.page.sections import Known, Sections, why_down
from metrics_gateway.sources.reading import Reading


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem."""

    level: Level
    # A sentence without its full stop.
    text: str
    # The id of the page's element with the details.
    anchor: str
    # The alert for the same condition, which is also the runbook's heading; empty when there is none.
    alert: str = ""


def find(readings: Sequence[Reading], sections: Sections, now: datetime) -> Sequence[Finding]:
    """Return all findings, worst first. A source that is down is one finding, not one for each of its sections."""
    down = [reading for reading in readings if reading.response is None]
    found = [
        Finding(Level.WRONG, _sentence(why_down(reading, now)), "sources", "FlywheelSourceDown")
        for reading in down
    ]
    for name, find_in in _SECTION_FINDERS:
        section = getattr(sections, name)
        if isinstance(section, Known):
            found += find_in(section.stats)
        elif not down:
            text = f"No source has stats of {name.replace('_', ' ')}"
            found.append(Finding(Level.WATCH, text, "sources"))
    found += _gap(sections)
    return sorted(found, key=lambda finding: -finding.level)


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
    if delivery_is_old(stats):
        text = f"A resolve has waited for delivery for {duration(stats.oldest_pending_seconds)}"
        yield Finding(Level.WRONG, text, "deliveries", "FlywheelResolveDeliveryOld")
    for topic, parked in parked_by_topic(stats).items():
        text = counted(parked, *_jobs(topic, "is parked", "are parked"))
        yield Finding(Level.WRONG, f"{text} and will not be retried", "deliveries", "FlywheelDeliveryParked")
    for topic, age in oldest_by_topic(stats).items():
        (one, _) = _jobs(topic, "has waited for", "")
        yield Finding(Level.WRONG, f"One {one} {duration(age)}", "deliveries", "FlywheelDeliveryOld")


def _jobs(topic: int, is_: str, are: str) -> tuple[str, str]:
    one, many = TOPICS.get(topic, OTHER_TOPIC)
    return f"{one} {is_}", f"{many} {are}"


def _side_effects(stats: SideEffectStats) -> Iterator[Finding]:
    _, parked = open_side_effects(stats)
    if parked:
        text = counted(parked, "side effect is parked", "side effects are parked")
        yield Finding(Level.WRONG, f"{text} and will not run", "side-effects", "FlywheelSideEffectParked")
    if side_effect_is_old(stats):
        text = f"A side effect has waited for {duration(stats.oldest_pending_seconds)}"
        yield Finding(Level.WRONG, text, "side-effects", "FlywheelSideEffectOld")


def _executions(stats: ExecutionStats) -> Iterator[Finding]:
    if rate_is_missing(stats):
        text = f"There is no success rate, although there are {count(stats.samples)} repairs"
        yield Finding(Level.WRONG, text, "key-numbers", "FlywheelExecutionRateMissing")
    elif rate_is_low(stats):
        text = f"Only {count(stats.successes)} of {counted(stats.samples, 'repair', 'repairs')} succeeded"
        yield Finding(Level.WRONG, text, "key-numbers", "FlywheelExecutionRateLow")


def _recoveries(stats: RecoveryStats) -> Iterator[Finding]:
    if recovery_is_overdue(stats):
        text = f"Whether a repair has helped is overdue for {duration(stats.overdue_seconds)}"
        yield Finding(Level.WRONG, text, "key-numbers", "FlywheelRecoveryOverdue")
    failed = not_recovered(stats)
    if failed:
        text = f"{counted(failed, 'repair', 'repairs')} did not help in 24 h"
        yield Finding(Level.WATCH, text, "key-numbers", "FlywheelRepairNotRecovered")


def _approvals(stats: ApprovalStats) -> Iterator[Finding]:
    if stats.incident_unknown:
        text = counted(
            stats.incident_unknown,
            "approval points at an incident that does not exist",
            "approvals point at incidents that do not exist",
        )
        yield Finding(Level.WRONG, text, "approvals", "FlywheelIncidentUnknown")
    if approval_is_old(stats):
        text = f"An approval has waited for a decision for {duration(stats.oldest_pending_seconds)}"
        yield Finding(Level.WATCH, text, "approvals", "FlywheelApprovalWaiting")


def _resolutions(stats: ResolutionStats) -> Iterator[Finding]:
    postmortems = no_action_postmortems(stats)
    if postmortems > MAX_NO_ACTION_POSTMORTEMS:
        text = f"{count(postmortems)} NO_ACTION postmortems were written in 24 h"
        yield Finding(Level.WATCH, text, "key-numbers", "FlywheelNoActionPostmortemFlood")


def _gap(sections: Sections) -> Iterator[Finding]:
    lost = lost_resolves(sections)
    if lost:
        text = (
            counted(lost, "NO_ACTION execution left its", "NO_ACTION executions left their")
            + " incident open"
        )
        yield Finding(Level.WRONG, text, "key-numbers", "FlywheelNoopResolutionGap")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# In the order in which findings of one level are listed.
_SECTION_FINDERS: Sequence[tuple[str, Callable[..., Iterator[Finding]]]] = (
    ("incidents", _incidents),
    ("deliveries", _deliveries),
    ("side_effects", _side_effects),
    ("executions", _executions),
    ("recoveries", _recoveries),
    ("approvals", _approvals),
    ("resolutions", _resolutions),
)
