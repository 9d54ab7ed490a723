"""The loop at a glance, from the statistics of both services."""

from collections.abc import Iterator, Sequence
from typing import Final

from awoooi.approval.v1 import approval_pb2
from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from awoooi.incident.v1 import incident_pb2
from flywheel.operator.output.cells import age, duration, enum_name, line
from flywheel.operator.output.view import Column, View
from flywheel.operator.views.approval import state_name
from flywheel.operator.views.waiting import delivery_state, effect, effect_state, topic

_PENDING: Final = approval_pb2.Delivery.STATE_PENDING
_PARKED: Final = approval_pb2.Delivery.STATE_PARKED


def incident_lines(found: GetFlywheelStatsResponse) -> Iterator[tuple[str, str]]:
    """Yield what the incident service says, each with its title."""
    incidents, resolutions, effects = found.incidents, found.resolutions, found.side_effects
    states = [
        f"{each.count} {enum_name(incident_pb2.Incident.State, 'STATE_', each.state)}"
        for each in incidents.incidents
    ]
    opened = sum(each.opened for each in incidents.hours)
    resolved = sum(each.resolved for each in incidents.hours)
    yield "INCIDENTS", _joined([*states, f"{opened} opened and {resolved} resolved within 24 h"])
    threshold = duration(incidents.stuck_after.ToTimedelta().total_seconds())
    reasons = [
        f"{each.count} {stuck_reason(each.reason)}" for each in incidents.stuck_by_reason if each.count
    ]
    yield "STUCK", _joined([f"{incidents.stuck} without progress for {threshold}", *reasons])
    took = resolutions.resolution_seconds
    if took.count:
        yield "RESOLUTIONS", f"{took.count} in all, after {duration(took.sum / took.count)} in the mean"
    jobs = [
        f"{each.count} {effect(each.effect)} {effect_state(each.state)}"
        for each in effects.side_effects
        if each.count
    ]
    yield "SIDE EFFECTS", _joined([*jobs, *_oldest(effects.oldest_pending_seconds)]) or "nothing waits"


def approval_lines(found: GetFlywheelStatsResponse) -> Iterator[tuple[str, str]]:
    """Yield what the approval service says."""
    approvals, executions, recoveries = found.approvals, found.executions, found.recoveries
    states = [f"{each.count} {state_name(each.state)}" for each in approvals.approvals if each.count]
    yield "APPROVALS", _joined([*states, *_oldest(approvals.oldest_pending_seconds)]) or "none"
    yield (
        # A NO_ACTION is none: it has numbers of its own.
        "REPAIRS",
        _rate(executions.success_rate, executions, "succeeded", is_set=executions.HasField("success_rate"))
        + f"; {executions.noop_executions_total} NO_ACTION executed,"
        f" {executions.noop_resolutions_total} of them resolved",
    )
    yield (
        "RECOVERIES",
        _joined(
            [
                _rate(
                    recoveries.recovery_rate,
                    recoveries,
                    "helped",
                    is_set=recoveries.HasField("recovery_rate"),
                ),
                *([f"{recoveries.pending} PENDING"] if recoveries.pending else []),
            ]
        ),
    )
    jobs = [
        f"{each.count} {topic(per_topic.topic)} {delivery_state(each.state)}"
        for per_topic in found.deliveries.topics
        for each in per_topic.deliveries
        if each.count
    ]
    yield "DELIVERIES", _joined([*jobs, *_oldest(found.deliveries.oldest_pending_seconds)]) or "nothing waits"


def problems(found: GetFlywheelStatsResponse) -> Iterator[str]:
    """Yield what somebody has to do something about, and the command that shows it."""
    if found.incidents.stuck:
        yield f"{found.incidents.stuck} incidents are stuck: flywheel incident stuck"
    parked = sum(
        each.count
        for each in found.side_effects.side_effects
        if each.state == incident_pb2.SideEffect.STATE_PARKED
    )
    if parked:
        yield f"{parked} side effects are PARKED: flywheel effect list --state parked"
    parked = sum(
        each.count
        for per_topic in found.deliveries.topics
        for each in per_topic.deliveries
        if each.state == _PARKED
    )
    if parked:
        yield f"{parked} deliveries are PARKED: flywheel delivery list --state parked"
    if found.approvals.incident_unknown:
        count = found.approvals.incident_unknown
        yield f"the incidents of {count} approvals are unknown: flywheel approval list --incident-unknown"
    indeterminate = sum(
        each.count
        for each in found.approvals.approvals
        if each.state == approval_pb2.Approval.STATE_INDETERMINATE
    )
    if indeterminate:
        yield f"{indeterminate} executions are INDETERMINATE: flywheel approval list --state indeterminate"
    if found.recoveries.overdue_seconds:
        yield f"recoveries are looked for {duration(found.recoveries.overdue_seconds)} late"
    for each in found.server.unusable_identity_sources:
        name = enum_name(stats.IdentitySource, "IDENTITY_SOURCE_", each)
        yield f"identities cannot be verified by {name or 'a source of another version'}: see the service's log"


def stuck_reason(number: int) -> str:
    """Return why an incident is stuck."""
    return enum_name(stats.StuckReason, "STUCK_REASON_", number)


STUCK: Final = View[stats.StuckIncident](
    "stuck incidents",
    columns=[
        Column("STUCK", lambda each: each.incident_id),
        Column("SEVERITY", lambda each: enum_name(incident_pb2.Severity, "SEVERITY_", each.severity)),
        Column("PROGRESS", lambda each: age(each, "last_progress_time")),
        Column("REASON", lambda each: stuck_reason(each.reason)),
        Column("TITLE", lambda each: line(each.title)),
    ],
)
WAITING: Final = View[stats.PendingApproval](
    "pending approvals",
    columns=[
        Column("TO DECIDE", lambda each: each.approval_id),
        Column("INCIDENT", lambda each: each.incident_id),
        Column("RISK", lambda each: enum_name(approval_pb2.Risk, "RISK_", each.risk)),
        Column("AGE", lambda each: age(each, "create_time")),
        Column("ACTION", lambda each: line(each.action)),
    ],
)


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(part for part in parts if part)


def _oldest(seconds: float) -> Sequence[str]:
    return [f"the oldest waits since {duration(seconds)}"] if seconds else []


def _rate(
    rate: float, counted: stats.ExecutionStats | stats.RecoveryStats, verb: str, *, is_set: bool
) -> str:
    window = duration(counted.window.ToTimedelta().total_seconds())
    if is_set:
        return f"{rate:.1%} of {counted.samples} within {window} {verb}"
    return f"{counted.samples or 'none'} within {window}, too few for a rate ({counted.min_samples})"
