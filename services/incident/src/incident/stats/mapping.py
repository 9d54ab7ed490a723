"""The stats as the sections of GetFlywheelStats. Every value of an enum is there, 0 included."""

import collections
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration

from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats_pb
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb
from incident.counters import OTHER_EFFECT, RESOLUTION_BOUNDS_SECONDS
from incident.effects.mapping import SIDE_EFFECT_STATES, side_effect_to_proto
from incident.effects.model import SideEffectState
from incident.model import Effect, ResolutionType, Severity, State
from incident.stats.model import IncidentDetails, IncidentStats
from incident.wire_enums import EFFECTS, RESOLUTION_TYPES, SEVERITIES, STATES
from servicekit.process.build import Build
from servicekit.rpc.timestamps import to_timestamp

_OPEN_STATES = (SideEffectState.PENDING, SideEffectState.PARKED)
# Limits by their names in the series of a server.
_LIMITS = {
    name.removeprefix("SERVER_LIMIT_").lower(): number
    for name, number in stats_pb.ServerLimit.items()
    if number
}
_IDENTITY_SOURCES = {
    name.removeprefix("IDENTITY_SOURCE_").lower(): number for name, number in stats_pb.IdentitySource.items()
}


def stats_to_proto(stats: IncidentStats) -> pb.GetFlywheelStatsResponse:
    """Return the response with the incident service's sections."""
    response = pb.GetFlywheelStatsResponse(
        read_time=to_timestamp(stats.read_time),
        incidents=_incidents(stats),
        resolutions=_resolutions(stats),
        side_effects=_side_effects(stats),
    )
    if stats.details is not None:
        _add_details(response, stats.details)
    return response


def _add_details(response: pb.GetFlywheelStatsResponse, details: IncidentDetails) -> None:
    response.incidents.stuck_incidents.extend(
        stats_pb.StuckIncident(
            incident_id=incident.incident_id,
            title=incident.title,
            severity=SEVERITIES.to_wire(incident.severity),
            state=STATES.to_wire(incident.state),
            reason=stats_pb.StuckReason.Value(f"STUCK_REASON_{incident.reason}"),
            last_progress_time=to_timestamp(incident.last_progress_time),
        )
        for incident in details.stuck
    )
    response.incidents.hours.extend(
        stats_pb.IncidentHour(
            start_time=to_timestamp(hour.start_time), opened=hour.opened, resolved=hour.resolved
        )
        for hour in details.hours
    )
    response.side_effects.waiting.extend(side_effect_to_proto(waiting) for waiting in details.waiting)


def _incidents(stats: IncidentStats) -> stats_pb.IncidentStats:
    threshold = Duration()
    threshold.FromTimedelta(stats.stuck_after)
    return stats_pb.IncidentStats(
        incidents=[
            stats_pb.IncidentStateCount(
                state=STATES.to_wire(state),
                count=stats.unresolved.get(state, 0),
            )
            for state in (State.OPEN, State.INVESTIGATING)
        ],
        stuck=sum(stats.stuck_by_reason.values()),
        stuck_by_reason=[
            stats_pb.StuckReasonCount(
                reason=stats_pb.StuckReason.Value(name),
                count=stats.stuck_by_reason.get(name.removeprefix("STUCK_REASON_"), 0),
            )
            for name in stats_pb.StuckReason.keys()[1:]
        ],
        stuck_after=threshold,
        opened_total=[
            stats_pb.SeverityCount(
                severity=SEVERITIES.to_wire(severity),
                count=stats.opened.get(severity, 0),
            )
            for severity in Severity
        ],
    )


def _resolutions(stats: IncidentStats) -> stats_pb.ResolutionStats:
    return stats_pb.ResolutionStats(
        resolved_total=_by_type(stats.resolved),
        resolution_seconds=stats_pb.Histogram(
            buckets=[
                stats_pb.Histogram.Bucket(upper_bound=bound, cumulative_count=count)
                for bound, count in zip(RESOLUTION_BOUNDS_SECONDS, stats.resolution_cumulative, strict=True)
            ],
            count=stats.resolution_count,
            sum=stats.resolution_seconds_sum,
        ),
        postmortems_24h=_by_type(stats.postmortems_24h),
    )


def _by_type(counts: Mapping[str, int]) -> list[stats_pb.ResolutionTypeCount]:
    return [
        stats_pb.ResolutionTypeCount(
            resolution_type=RESOLUTION_TYPES.to_wire(name),
            count=counts.get(name, 0),
        )
        for name in ResolutionType
    ]


def _side_effects(stats: IncidentStats) -> stats_pb.SideEffectStats:
    counts = [
        stats_pb.SideEffectCount(
            effect=EFFECTS.to_wire(effect),
            state=SIDE_EFFECT_STATES.to_wire(state),
            count=stats.open_side_effects.counts.get((effect, state), 0),
        )
        for effect in Effect
        for state in _OPEN_STATES
    ]
    counts += [
        stats_pb.SideEffectCount(state=SIDE_EFFECT_STATES.to_wire(state), count=of_other_versions)
        for state in _OPEN_STATES
        if (of_other_versions := stats.open_side_effects.counts.get((None, state), 0))
    ]
    dismissed = [
        stats_pb.EffectCount(
            effect=EFFECTS.to_wire(effect), count=stats.dismissed_side_effects.get(effect, 0)
        )
        for effect in Effect
    ]
    if others := stats.dismissed_side_effects.get(OTHER_EFFECT, 0):
        dismissed.append(stats_pb.EffectCount(count=others))
    return stats_pb.SideEffectStats(
        side_effects=counts,
        oldest_pending_seconds=stats.open_side_effects.oldest_pending_seconds,
        dismissed_total=dismissed,
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
