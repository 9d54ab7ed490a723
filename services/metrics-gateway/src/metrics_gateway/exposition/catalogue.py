"""Every series that the gateway exports, except the `process_*` ones, which prometheus_client makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

from awoooi.approval.v1.approval_pb2 import Approval, Delivery, Recovery
from awoooi.flywheel.v1.flywheel_stats_pb2 import (
    ApprovalStats,
    DeliveryStats,
    ExecutionOutcome,
    ExecutionStats,
    IdentitySource,
    IncidentStats,
    RecoveryStats,
    ResolutionStats,
    ServerLimit,
    SideEffectStats,
    StuckReason,
)
from awoooi.incident.v1.incident_pb2 import Incident, ResolutionType, Severity, SideEffect
from metrics_gateway.exposition.families import (
    CountsFamily,
    Exported,
    Family,
    HistogramFamily,
    S,
    ValueFamily,
)
from metrics_gateway.exposition.labels import Label, OpenLabel, enum_label
from metrics_gateway.settings import SOURCE_NAME
from metrics_gateway.sources.reading import Reading, Reason

# Those of the incident service.
RESOLUTION_BOUNDS_SECONDS = (60, 300, 900, 1800, 3600, 14_400, 43_200, 86_400, 259_200, 604_800)

_EXECUTIONS: Sequence[Family[ExecutionStats]] = (
    ValueFamily(
        "gauge",
        "awoooi_flywheel_execution_success_rate",
        "Share of repairs that succeeded in the last 24 hours, 0 to 1. Withheld (absent) while there are fewer than"
        " awoooi_flywheel_execution_min_samples repairs.",
        lambda stats: stats.success_rate if stats.HasField("success_rate") else None,
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_execution_samples",
        "Repairs in the last 24 hours: the samples of the success rate. NO_ACTION is not a repair.",
        lambda stats: stats.samples,
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_execution_successes",
        "Repairs in the last 24 hours that succeeded.",
        lambda stats: stats.successes,
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_execution_min_samples",
        "Samples that the success rate requires; with fewer it is withheld.",
        lambda stats: stats.min_samples,
    ),
    CountsFamily(
        "counter",
        "awoooi_flywheel_executions_total",
        "Executions of approved actions, by outcome.",
        (enum_label("outcome", ExecutionOutcome.DESCRIPTOR),),
        lambda stats: [((entry.outcome,), entry.count) for entry in stats.executions_total],
    ),
    ValueFamily(
        "counter",
        "awoooi_flywheel_noop_executions_total",
        "NO_ACTION executions completed.",
        lambda stats: stats.noop_executions_total,
    ),
    ValueFamily(
        "counter",
        "awoooi_flywheel_noop_resolutions_total",
        "NO_ACTION executions whose incident was acknowledged as resolved, or whose resolve was dismissed. Below"
        " awoooi_flywheel_noop_executions_total only while deliveries are pending or parked, or after a restore of the"
        " incident database.",
        lambda stats: stats.noop_resolutions_total,
    ),
)

_RECOVERIES: Sequence[Family[RecoveryStats]] = (
    ValueFamily(
        "gauge",
        "awoooi_flywheel_recovery_rate",
        "Share of repairs of the last 24 hours after which the incident's alert was gone, 0 to 1: whether repairs help, not"
        " whether operations run. Withheld (absent) while there are fewer than awoooi_flywheel_execution_min_samples.",
        lambda stats: stats.recovery_rate if stats.HasField("recovery_rate") else None,
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_recovery_samples",
        "Repairs that were found to have helped or not in the last 24 hours: the samples of the recovery rate.",
        lambda stats: stats.samples,
    ),
    CountsFamily(
        "counter",
        "awoooi_flywheel_recoveries_total",
        "Repairs by whether they have helped: verified, not_recovered, or unverified where there is no verifier.",
        (
            enum_label(
                "outcome",
                Recovery.DESCRIPTOR,
                Recovery.RECOVERY_VERIFIED,
                Recovery.RECOVERY_NOT_RECOVERED,
                Recovery.RECOVERY_UNVERIFIED,
            ),
        ),
        lambda stats: [((entry.recovery,), entry.count) for entry in stats.recoveries_total],
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_recoveries_pending",
        "Repairs whose incident's alert is looked for now.",
        lambda stats: stats.pending,
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_recovery_overdue_seconds",
        "For how long the window of the pending recovery that should have ended first is over; 0 when none is. More than"
        " minutes: no process looks.",
        lambda stats: stats.overdue_seconds,
    ),
)

_APPROVALS: Sequence[Family[ApprovalStats]] = (
    CountsFamily(
        "gauge",
        "awoooi_flywheel_approvals",
        "Approvals now, by state.",
        (enum_label("state", Approval.State.DESCRIPTOR),),
        lambda stats: [((entry.state,), entry.count) for entry in stats.approvals],
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_approval_oldest_pending_seconds",
        "Age of the oldest pending approval; 0 when none is pending.",
        lambda stats: stats.oldest_pending_seconds,
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_approvals_incident_unknown",
        "Approvals whose incident the incident service does not know, without those accepted as lost.",
        lambda stats: stats.incident_unknown,
    ),
    ValueFamily(
        "counter",
        "awoooi_flywheel_approvals_superseded_total",
        "Approvals that another proposal superseded before they were decided.",
        lambda stats: stats.superseded_total,
    ),
)

_DELIVERIES: Sequence[Family[DeliveryStats]] = (
    CountsFamily(
        "gauge",
        "awoooi_flywheel_resolve_deliveries",
        "Resolves that the incident service has not acknowledged, by state: pending ones are retried, parked ones"
        " (dead letters) are not.",
        (
            enum_label(
                "state", Delivery.State.DESCRIPTOR, Delivery.State.STATE_PENDING, Delivery.State.STATE_PARKED
            ),
        ),
        lambda stats: [((entry.state,), entry.count) for entry in stats.deliveries],
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_resolve_delivery_oldest_pending_seconds",
        "Age of the oldest pending resolve; 0 when none is pending.",
        lambda stats: stats.oldest_pending_seconds,
    ),
)

_TOPIC = enum_label("topic", Delivery.Topic.DESCRIPTOR)

_TOPICS: Sequence[Family[DeliveryStats]] = (
    CountsFamily(
        "gauge",
        "awoooi_flywheel_deliveries",
        "Jobs of the approval service that are not done, by topic and state: resolves and timeline entries for the"
        " incident service, executions, notifications, and jobs of another version. Parked ones (dead letters) are not retried.",
        (
            _TOPIC,
            enum_label(
                "state", Delivery.State.DESCRIPTOR, Delivery.State.STATE_PENDING, Delivery.State.STATE_PARKED
            ),
        ),
        lambda stats: [
            ((topic.topic, entry.state), entry.count) for topic in stats.topics for entry in topic.deliveries
        ],
    ),
    CountsFamily(
        "gauge",
        "awoooi_flywheel_delivery_oldest_pending_seconds",
        "Age of the oldest pending job of each topic; 0 when none is pending.",
        (_TOPIC,),
        lambda stats: [((topic.topic,), topic.oldest_pending_seconds) for topic in stats.topics],
    ),
    CountsFamily(
        "counter",
        "awoooi_flywheel_deliveries_dismissed_total",
        "Parked jobs of the approval service that operators gave up, by topic.",
        (_TOPIC,),
        lambda stats: [((topic.topic,), topic.dismissed_total) for topic in stats.topics],
    ),
)

_INCIDENTS: Sequence[Family[IncidentStats]] = (
    CountsFamily(
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
    ValueFamily(
        "gauge",
        "awoooi_flywheel_incidents_stuck",
        "Unresolved incidents without progress for longer than INCIDENT_STUCK_AFTER (default 30 minutes).",
        lambda stats: stats.stuck,
    ),
    CountsFamily(
        "gauge",
        "awoooi_flywheel_incidents_stuck_by_reason",
        "Stuck incidents, by the reason that their own timeline shows.",
        (enum_label("reason", StuckReason.DESCRIPTOR),),
        lambda stats: [((entry.reason,), entry.count) for entry in stats.stuck_by_reason],
    ),
    CountsFamily(
        "counter",
        "awoooi_flywheel_incidents_opened_total",
        "Incidents opened, by severity. Repeated reports of an open incident do not count.",
        (enum_label("severity", Severity.DESCRIPTOR),),
        lambda stats: [((entry.severity,), entry.count) for entry in stats.opened_total],
    ),
)

_RESOLUTIONS: Sequence[Family[ResolutionStats]] = (
    CountsFamily(
        "counter",
        "awoooi_flywheel_incidents_resolved_total",
        "Incidents resolved, by resolution type.",
        (enum_label("resolution_type", ResolutionType.DESCRIPTOR),),
        lambda stats: [((entry.resolution_type,), entry.count) for entry in stats.resolved_total],
    ),
    HistogramFamily(
        "awoooi_flywheel_incident_resolution_seconds",
        "Time from an incident's opening, or its latest reopening, until it was resolved.",
        lambda stats: stats.resolution_seconds if stats.HasField("resolution_seconds") else None,
        RESOLUTION_BOUNDS_SECONDS,
    ),
    CountsFamily(
        "gauge",
        "awoooi_flywheel_postmortems_24h",
        "Postmortems written in the last 24 hours, by resolution type of the incident.",
        (enum_label("resolution_type", ResolutionType.DESCRIPTOR),),
        lambda stats: [((entry.resolution_type,), entry.count) for entry in stats.postmortems_24h],
    ),
)

_SIDE_EFFECTS: Sequence[Family[SideEffectStats]] = (
    CountsFamily(
        "gauge",
        "awoooi_flywheel_side_effects",
        "Side effects of resolutions that have not ended, by effect and state. Parked ones (dead letters) are not"
        " retried.",
        (
            enum_label("effect", SideEffect.Effect.DESCRIPTOR),
            enum_label(
                "state",
                SideEffect.State.DESCRIPTOR,
                SideEffect.State.STATE_PENDING,
                SideEffect.State.STATE_DONE,
                SideEffect.State.STATE_PARKED,
                SideEffect.State.STATE_SKIPPED,
            ),
        ),
        lambda stats: [((entry.effect, entry.state), entry.count) for entry in stats.side_effects],
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_side_effect_oldest_pending_seconds",
        "Age of the oldest pending side effect; 0 when none is pending.",
        lambda stats: stats.oldest_pending_seconds,
    ),
    CountsFamily(
        "counter",
        "awoooi_flywheel_side_effects_dismissed_total",
        "Parked side effects that operators gave up, by effect.",
        (enum_label("effect", SideEffect.Effect.DESCRIPTOR),),
        lambda stats: [((entry.effect,), entry.count) for entry in stats.dismissed_total],
    ),
)


@dataclass(frozen=True)
class Section(Generic[S]):
    """A section of GetFlywheelStatsResponse and its metric families."""

    field: str
    families: Sequence[Family[S]]


# A section that no source filled has no series.
SECTIONS: Sequence[Section[Any]] = (
    Section("executions", _EXECUTIONS),
    Section("recoveries", _RECOVERIES),
    Section("approvals", _APPROVALS),
    Section("deliveries", (*_DELIVERIES, *_TOPICS)),
    Section("incidents", _INCIDENTS),
    Section("resolutions", _RESOLUTIONS),
    Section("side_effects", _SIDE_EFFECTS),
)

# The gateway's own metrics of each source. Their first label is SOURCE; they exist from the first scrape on.
SOURCE = OpenLabel("source", lambda value: bool(SOURCE_NAME.fullmatch(value)), "names as in GATEWAY_SOURCES")


def _refused(reading: Reading) -> Sequence[tuple[tuple[int], int]] | None:
    if reading.response is None or not reading.response.HasField("server"):
        return None
    return [((entry.limit,), entry.count) for entry in reading.response.server.refused_total]


def _unusable(reading: Reading) -> Sequence[tuple[tuple[int], int]] | None:
    if reading.response is None or not reading.response.HasField("server"):
        return None
    return [((source,), 1) for source in {*reading.response.server.unusable_identity_sources}]


SOURCE_FAMILIES: Sequence[Family[Reading]] = (
    ValueFamily(
        "gauge",
        "awoooi_flywheel_source_up",
        "1 if the source returned a valid response to this scrape, else 0: then its series are absent.",
        lambda reading: float(reading.response is not None),
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_source_last_success_timestamp_seconds",
        "Time of the latest valid response, in seconds since 1970; 0 if there was none since this gateway started.",
        lambda reading: reading.last_success_timestamp,
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_source_stats_timestamp_seconds",
        "When the stats of the source were read, by its database's clock, in seconds since 1970. A source whose database is"
        " slow returns those before, at most five minutes old. Absent when there is no response.",
        lambda reading: (
            None if reading.response is None else reading.response.read_time.ToNanoseconds() / 1e9
        ),
    ),
    ValueFamily(
        "gauge",
        "awoooi_flywheel_source_scrape_duration_seconds",
        "How long this scrape waited for the source.",
        lambda reading: reading.duration_seconds,
    ),
    CountsFamily(
        "counter",
        "awoooi_flywheel_source_errors_total",
        "Failed requests to the source since this gateway started, by reason.",
        (Label("reason", {reason: reason.value for reason in Reason}),),
        lambda reading: [((reason,), count) for reason, count in reading.errors.items()],
    ),
    CountsFamily(
        "counter",
        "awoooi_flywheel_grpc_refused_total",
        "Calls, answers and connections that a limit of the source's gRPC server refused, or ended for others, by limit."
        " Counted by the process that answered the scrape, since its start.",
        (enum_label("limit", ServerLimit.DESCRIPTOR),),
        _refused,
    ),
    CountsFamily(
        "gauge",
        "awoooi_flywheel_identity_source_unusable",
        "Whether a file or URL that the source verifies identities by could not be used at the last attempt, 0 or 1. Of"
        " the process that answered the scrape.",
        (enum_label("identity_source", IdentitySource.DESCRIPTOR),),
        _unusable,
    ),
)

# The label VERSION has the gateway's own version.
VERSION = OpenLabel("version", bool, "versions")
BUILD_INFO: ValueFamily[str] = ValueFamily(
    "gauge",
    "awoooi_flywheel_build_info",
    "Always 1; the label is the version of this gateway.",
    lambda _: 1,
)


def exported_series() -> Exported:
    """Return the labels of all series above, by the name under which they are scraped."""
    every = [family.exported() for section in SECTIONS for family in section.families]
    every += [family.exported([SOURCE]) for family in SOURCE_FAMILIES]
    every += [BUILD_INFO.exported([VERSION])]
    return {name: labels for exported in every for name, labels in exported.items()}


def process_series() -> Exported:
    """Return the labels of what each process exports about its own identities and certificates, the gateway and the services.

    On the gateway's `/metrics`, and on `…_METRICS_LISTEN` of the services.
    """
    identity_source = enum_label("source", IdentitySource.DESCRIPTOR)
    file = OpenLabel("file", lambda value: value != "", "paths as in the settings")
    return {
        "identity_source_usable": (identity_source,),
        "identity_source_failures_total": (identity_source,),
        "tls_certificate_expiry_timestamp_seconds": (file,),
        "tls_certificate_not_before_timestamp_seconds": (file,),
        "tls_certificate_reload_failures_total": (file,),
    }
