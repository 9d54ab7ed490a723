"""The figures as the sections of GetFlywheelStats. Every value of an enum is there, 0 included."""

from collections.abc import Mapping
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from awoooi.flywheel.v1 import flywheel_stats_pb2 as figures_pb
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb
from awoooi.incident.v1 import incident_pb2
from incident.lifecycle.mapping import side_effect_to_proto
from incident.model import Effect, ResolutionType, Severity, State
from incident.stats.repository import RESOLUTION_BOUNDS_SECONDS, IncidentDetails, IncidentFigures
from servicekit.rpc.timestamps import to_timestamp

_OPEN_JOB_STATES = ("PENDING", "PARKED")


def figures_to_proto(figures: IncidentFigures, *, stuck_after: timedelta) -> pb.GetFlywheelStatsResponse:
    """Return the response with the incident service's sections."""
    response = pb.GetFlywheelStatsResponse(
        read_time=to_timestamp(figures.read_time),
        incidents=_incidents(figures, stuck_after),
        resolutions=_resolutions(figures),
        side_effects=_side_effects(figures),
    )
    if figures.details is not None:
        _add_details(response, figures.details)
    return response


def _add_details(response: pb.GetFlywheelStatsResponse, details: IncidentDetails) -> None:
    response.incidents.stuck_incidents.extend(
        figures_pb.StuckIncident(
            incident_id=incident.incident_id,
            title=incident.title,
            severity=incident_pb2.Severity.Value(f"SEVERITY_{incident.severity}"),
            state=incident_pb2.Incident.State.Value(f"STATE_{incident.state}"),
            reason=figures_pb.StuckReason.Value(f"STUCK_REASON_{incident.reason}"),
            last_progress_time=to_timestamp(incident.last_progress_time),
        )
        for incident in details.stuck
    )
    response.incidents.hours.extend(
        figures_pb.IncidentHour(
            start_time=to_timestamp(hour.start_time), opened=hour.opened, resolved=hour.resolved
        )
        for hour in details.hours
    )
    response.side_effects.waiting.extend(side_effect_to_proto(waiting) for waiting in details.waiting)


def _incidents(figures: IncidentFigures, stuck_after: timedelta) -> figures_pb.IncidentStats:
    threshold = Duration()
    threshold.FromTimedelta(stuck_after)
    return figures_pb.IncidentStats(
        incidents=[
            figures_pb.IncidentStateCount(
                state=incident_pb2.Incident.State.Value(f"STATE_{state}"),
                count=figures.unresolved.get(state, 0),
            )
            for state in (State.OPEN, State.INVESTIGATING)
        ],
        stuck=figures.stuck,
        stuck_by_reason=[
            figures_pb.StuckReasonCount(
                reason=figures_pb.StuckReason.Value(name),
                count=figures.stuck_by_reason.get(name.removeprefix("STUCK_REASON_"), 0),
            )
            for name in figures_pb.StuckReason.keys()[1:]
        ],
        stuck_after=threshold,
        opened_total=[
            figures_pb.SeverityCount(
                severity=incident_pb2.Severity.Value(f"SEVERITY_{severity}"),
                count=figures.opened.get(severity, 0),
            )
            for severity in Severity
        ],
    )


def _resolutions(figures: IncidentFigures) -> figures_pb.ResolutionStats:
    return figures_pb.ResolutionStats(
        resolved_total=_by_type(figures.resolved),
        resolution_seconds=figures_pb.Histogram(
            buckets=[
                figures_pb.Histogram.Bucket(upper_bound=bound, cumulative_count=count)
                for bound, count in zip(RESOLUTION_BOUNDS_SECONDS, figures.resolution_cumulative, strict=True)
            ],
            count=figures.resolution_count,
            sum=figures.resolution_seconds_sum,
        ),
        postmortems_24h=_by_type(figures.postmortems_24h),
    )


def _by_type(counts: Mapping[str, int]) -> list[figures_pb.ResolutionTypeCount]:
    return [
        figures_pb.ResolutionTypeCount(
            resolution_type=incident_pb2.ResolutionType.Value(f"RESOLUTION_TYPE_{name}"),
            count=counts.get(name, 0),
        )
        for name in ResolutionType
    ]


def _side_effects(figures: IncidentFigures) -> figures_pb.SideEffectStats:
    jobs = {(job.topic, job.state): job for job in figures.open_jobs}
    counts = [
        figures_pb.SideEffectCount(
            effect=incident_pb2.SideEffect.Effect.Value(f"EFFECT_{effect}"),
            state=incident_pb2.SideEffect.State.Value(f"STATE_{state}"),
            count=jobs[effect.topic, state].count if (effect.topic, state) in jobs else 0,
        )
        for effect in Effect
        for state in _OPEN_JOB_STATES
    ]
    oldest = max((job.oldest_seconds for job in figures.open_jobs if job.state == "PENDING"), default=0.0)
    return figures_pb.SideEffectStats(side_effects=counts, oldest_pending_seconds=oldest)
