"""Every series the gateway exports, but for the `process_*` ones of its own process: prometheus_client's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

from awoooi.approval.v1.approval_pb2 import Approval, Delivery
from awoooi.flywheel.v1.flywheel_stats_pb2 import (
    ApprovalStats,
    DeliveryStats,
    ExecutionOutcome,
    ExecutionStats,
    IncidentStats,
    ResolutionStats,
    SideEffectStats,
    StuckReason,
)
from awoooi.incident.v1.incident_pb2 import Incident, ResolutionType, Severity, SideEffect
from metrics_gateway.exposition.families import Counts, Distribution, Exported, Figure, S, Series
from metrics_gateway.exposition.labels import Label, OpenLabel, enum_label
from metrics_gateway.settings import SOURCE_NAME
from metrics_gateway.sources.source import Reading, Reason

_EXECUTIONS: Sequence[Series[ExecutionStats]] = (
    Figure(
        "gauge",
        "awoooi_flywheel_execution_success_rate",
        "Share of repairs that worked, of the last 24 hours; 0 to 1. Absent while there are fewer than"
        " awoooi_flywheel_execution_min_samples of them: too few to mean anything.",
        lambda stats: stats.success_rate if stats.HasField("success_rate") else None,
    ),
    Figure(
        "gauge",
        "awoooi_flywheel_execution_samples",
        "Repairs in the last 24 hours: what the success rate is computed from. Observing (NO_ACTION) is no repair.",
        lambda stats: stats.samples,
    ),
    Figure(
        "gauge",
        "awoooi_flywheel_execution_successes",
        "Repairs in the last 24 hours that worked.",
        lambda stats: stats.successes,
    ),
    Figure(
        "gauge",
        "awoooi_flywheel_execution_min_samples",
        "How many repairs the success rate needs. Below this many it is withheld.",
        lambda stats: stats.min_samples,
    ),
    Counts(
        "counter",
        "awoooi_flywheel_executions_total",
        "Executions of approved actions ever, by how they came out.",
        (enum_label("outcome", ExecutionOutcome.DESCRIPTOR),),
        lambda stats: [((entry.outcome,), entry.count) for entry in stats.executions_total],
    ),
    Figure(
        "counter",
        "awoooi_flywheel_noop_executions_total",
        "NO_ACTION executions completed ever.",
        lambda stats: stats.noop_executions_total,
    ),
    Figure(
        "counter",
        "awoooi_flywheel_noop_resolutions_total",
        "NO_ACTION executions whose incident was acknowledged as resolved. Stays behind"
        " awoooi_flywheel_noop_executions_total only while deliveries are on their way.",
        lambda stats: stats.noop_resolutions_total,
    ),
)

_APPROVALS: Sequence[Series[ApprovalStats]] = (
    Counts(
        "gauge",
        "awoooi_flywheel_approvals",
        "Approvals now, by state.",
        (enum_label("state", Approval.State.DESCRIPTOR),),
        lambda stats: [((entry.state,), entry.count) for entry in stats.approvals],
    ),
    Figure(
        "gauge",
        "awoooi_flywheel_approval_oldest_pending_seconds",
        "How long the oldest approval that nobody decided has waited; 0 when none waits.",
        lambda stats: stats.oldest_pending_seconds,
    ),
)

_DELIVERIES: Sequence[Series[DeliveryStats]] = (
    Counts(
        "gauge",
        "awoooi_flywheel_resolve_deliveries",
        "Resolves that the incident service has not acknowledged: pending ones are being retried, parked ones cannot"
        " succeed by themselves.",
        (
            enum_label(
                "state", Delivery.State.DESCRIPTOR, Delivery.State.STATE_PENDING, Delivery.State.STATE_PARKED
            ),
        ),
        lambda stats: [((entry.state,), entry.count) for entry in stats.deliveries],
    ),
    Figure(
        "gauge",
        "awoooi_flywheel_resolve_delivery_oldest_pending_seconds",
        "How long the oldest pending resolve has waited; 0 when none waits.",
        lambda stats: stats.oldest_pending_seconds,
    ),
)

_INCIDENTS: Sequence[Series[IncidentStats]] = (
    Counts(
        "gauge",
        "awoooi_flywheel_incidents",
        "Unresolved incidents now, by state.",
        (
            enum_label(
                "state",
                Incident.State.DESCRIPTOR,
                Incident.State.STATE_OPEN,
                Incident.State.STATE_INVESTIGATING,
            ),
        ),
        lambda stats: [((entry.state,), entry.count) for entry in stats.incidents],
    ),
    Figure(
        "gauge",
        "awoooi_flywheel_incidents_stuck",
        "Unresolved incidents without progress for longer than the threshold (INCIDENT_STUCK_AFTER, 30 minutes unless"
        " set otherwise).",
        lambda stats: stats.stuck,
    ),
    Counts(
        "gauge",
        "awoooi_flywheel_incidents_stuck_by_reason",
        "Stuck incidents, by what they wait for as far as their own timeline knows.",
        (enum_label("reason", StuckReason.DESCRIPTOR),),
        lambda stats: [((entry.reason,), entry.count) for entry in stats.stuck_by_reason],
    ),
    Counts(
        "counter",
        "awoooi_flywheel_incidents_opened_total",
        "Incidents opened ever, by severity. Repeated reports of an open incident do not count.",
        (enum_label("severity", Severity.DESCRIPTOR),),
        lambda stats: [((entry.severity,), entry.count) for entry in stats.opened_total],
    ),
)

_RESOLUTIONS: Sequence[Series[ResolutionStats]] = (
    Counts(
        "counter",
        "awoooi_flywheel_incidents_resolved_total",
        "Incidents resolved ever, by how.",
        (enum_label("resolution_type", ResolutionType.DESCRIPTOR),),
        lambda stats: [((entry.resolution_type,), entry.count) for entry in stats.resolved_total],
    ),
    Distribution(
        "awoooi_flywheel_incident_resolution_seconds",
        "Time from an incident's opening, or its latest reopening, until it was resolved.",
        lambda stats: stats.resolution_seconds if stats.HasField("resolution_seconds") else None,
    ),
    Counts(
        "gauge",
        "awoooi_flywheel_postmortems_24h",
        "Postmortems written in the last 24 hours, by how the incident was resolved.",
        (enum_label("resolution_type", ResolutionType.DESCRIPTOR),),
        lambda stats: [((entry.resolution_type,), entry.count) for entry in stats.postmortems_24h],
    ),
)

_SIDE_EFFECTS: Sequence[Series[SideEffectStats]] = (
    Counts(
        "gauge",
        "awoooi_flywheel_side_effects",
        "Side effects of resolutions, by effect and state. Those done or skipped count while they are kept.",
        (
            enum_label("effect", SideEffect.Effect.DESCRIPTOR),
            enum_label("state", SideEffect.State.DESCRIPTOR),
        ),
        lambda stats: [((entry.effect, entry.state), entry.count) for entry in stats.side_effects],
    ),
    Figure(
        "gauge",
        "awoooi_flywheel_side_effect_oldest_pending_seconds",
        "How long the oldest pending side effect has waited; 0 when none waits.",
        lambda stats: stats.oldest_pending_seconds,
    ),
)


@dataclass(frozen=True)
class Section(Generic[S]):
    """A section of GetFlywheelStatsResponse and what is read from it."""

    field: str
    series: Sequence[Series[S]]


# A section that no source filled gives no series.
SECTIONS: Sequence[Section[Any]] = (
    Section("executions", _EXECUTIONS),
    Section("approvals", _APPROVALS),
    Section("deliveries", _DELIVERIES),
    Section("incidents", _INCIDENTS),
    Section("resolutions", _RESOLUTIONS),
    Section("side_effects", _SIDE_EFFECTS),
)

# What the gateway itself knows about each source. Their first label is SOURCE; they are there from the first scrape on.
SOURCE = OpenLabel("source", lambda value: bool(SOURCE_NAME.fullmatch(value)), "names as in GATEWAY_SOURCES")
SOURCE_SERIES: Sequence[Series[Reading]] = (
    Figure(
        "gauge",
        "awoooi_flywheel_source_up",
        "1 if the source answered this scrape with figures that can be believed, else 0: then its series are left out.",
        lambda reading: float(reading.answer is not None),
    ),
    Figure(
        "gauge",
        "awoooi_flywheel_source_last_success_timestamp_seconds",
        "When the source last answered well, in seconds since 1970; 0 if it has not since this gateway started.",
        lambda reading: reading.last_success_timestamp,
    ),
    Figure(
        "gauge",
        "awoooi_flywheel_source_scrape_duration_seconds",
        "How long this scrape waited for the source.",
        lambda reading: reading.duration_seconds,
    ),
    Counts(
        "counter",
        "awoooi_flywheel_source_errors_total",
        "Failed attempts to read the source since this gateway started, by reason.",
        (Label("reason", {reason: reason.value for reason in Reason}),),
        lambda reading: [((reason,), count) for reason, count in reading.errors.items()],
    ),
)

# The gateway's own version is the value of the label VERSION.
VERSION = OpenLabel("version", bool, "versions")
BUILD_INFO: Figure[str] = Figure(
    "gauge",
    "awoooi_flywheel_build_info",
    "Always 1; the label is the version of the gateway that answers.",
    lambda _: 1,
)


def exported_series() -> Exported:
    """Return the labels of all series above by the name they are scraped under."""
    every = [series.exported() for section in SECTIONS for series in section.series]
    every += [series.exported([SOURCE]) for series in SOURCE_SERIES]
    every += [BUILD_INFO.exported([VERSION])]
    return {name: labels for exported in every for name, labels in exported.items()}
