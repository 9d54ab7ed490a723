"""The figures of this service: read from counters, partial indexes and the last day's rows, never from history."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from incident.effects.jobs import list_waiting
from incident.effects.repository import Disposition
from incident.model import SideEffect
from servicekit.database.counters import read_counters
from servicekit.outbox.jobs import OpenJobs, count_open

# Upper bounds of the time from opened to resolved, in seconds: a minute to a week.
RESOLUTION_BOUNDS_SECONDS = (60, 300, 900, 1800, 3600, 14_400, 43_200, 86_400, 259_200, 604_800)
_OVER = "inf"

INCIDENTS_OPENED = "incidents_opened"
INCIDENTS_RESOLVED = "incidents_resolved"
_SECONDS_BUCKET = "resolution_seconds_bucket"
_MILLISECONDS_SUM = "resolution_milliseconds_sum"


_NOW = text("SELECT now()")


@dataclass(frozen=True, slots=True)
class StuckIncident:
    """An incident that is stuck, and why."""

    incident_id: str
    title: str
    severity: str
    state: str
    reason: str
    last_progress_time: datetime


@dataclass(frozen=True, slots=True)
class Hour:
    """What happened in the hour that begins at `start_time`."""

    start_time: datetime
    opened: int
    resolved: int


@dataclass(frozen=True, slots=True)
class IncidentDetails:
    """What a person wants to see besides the figures: at most twenty of each list, and the last 24 hours."""

    stuck: Sequence[StuckIncident]
    hours: Sequence[Hour]
    waiting: Sequence[SideEffect]


@dataclass(frozen=True, slots=True)
class IncidentFigures:
    """Everything that this service tells about the loop. `details` only when they were asked for."""

    # By the database's clock.
    read_time: datetime
    unresolved: Mapping[str, int]
    stuck: int
    stuck_by_reason: Mapping[str, int]
    opened: Mapping[str, int]
    resolved: Mapping[str, int]
    # Observations at or below each of RESOLUTION_BOUNDS_SECONDS, those of the lower bounds included.
    resolution_cumulative: Sequence[int]
    resolution_count: int
    resolution_seconds_sum: float
    postmortems_24h: Mapping[str, int]
    open_jobs: Sequence[OpenJobs]
    details: IncidentDetails | None


def count_resolutions(dispositions: Iterable[Disposition]) -> Mapping[tuple[str, str], int]:
    """Return by how much these resolutions raise each counter, by (name, label)."""
    amounts: dict[tuple[str, str], int] = {}

    def add(name: str, label: str, amount: int) -> None:
        amounts[name, label] = amounts.get((name, label), 0) + amount

    for disposition in dispositions:
        seconds = disposition.resolution_seconds
        place = bisect_left(RESOLUTION_BOUNDS_SECONDS, seconds)
        bound = str(RESOLUTION_BOUNDS_SECONDS[place]) if place < len(RESOLUTION_BOUNDS_SECONDS) else _OVER
        add(INCIDENTS_RESOLVED, disposition.resolution_type, 1)
        add(_SECONDS_BUCKET, bound, 1)
        add(_MILLISECONDS_SUM, "", round(seconds * 1000))
    return amounts


_UNRESOLVED = text("SELECT state, count(*) FROM incidents WHERE state <> 'RESOLVED' GROUP BY state")

# Stuck incidents and why. Each approval stands where its timeline says it got to: its entries may come in any order, those
# without an approval count in theirs. What was refused or withdrawn, or executed before the incident was reopened, is
# over; of the rest the latest entry tells.
_STUCK_WITH_REASON = """
    SELECT incidents.incident_id, title, severity, state, CASE latest.type
        WHEN 'PROPOSED' THEN 'APPROVAL_PENDING'
        WHEN 'APPROVED' THEN 'APPROVED_NOT_EXECUTED'
        WHEN 'EXECUTED' THEN 'EXECUTED_NOT_RESOLVED'
        WHEN 'EXECUTION_FAILED' THEN 'EXECUTION_FAILED'
        ELSE 'NO_APPROVAL' END AS reason, last_progress_time
    FROM incidents
    LEFT JOIN LATERAL (
        SELECT type FROM (
            SELECT DISTINCT ON (attributes ->> 'approval_id') type, sequence FROM incident_events
            WHERE incident_id = incidents.incident_id AND type IN ('PROPOSED', 'APPROVED', 'REJECTED', 'EXPIRED',
                'CANCELLED', 'EXECUTED', 'EXECUTION_FAILED')
            ORDER BY attributes ->> 'approval_id', CASE
                WHEN attributes ->> 'approval_id' IS NULL OR type = 'PROPOSED' THEN 0
                WHEN type = 'APPROVED' THEN 1
                ELSE 2 END DESC, sequence DESC
        ) AS approval
        WHERE type IN ('PROPOSED', 'APPROVED') OR type IN ('EXECUTED', 'EXECUTION_FAILED') AND sequence > coalesce((
            SELECT max(sequence) FROM incident_events
            WHERE incident_id = incidents.incident_id AND type = 'REOPENED'), 0)
        ORDER BY sequence DESC LIMIT 1
    ) AS latest ON TRUE
    WHERE state <> 'RESOLVED' AND last_progress_time < now() - make_interval(secs => :stuck_seconds)
"""
_STUCK = text(f"SELECT reason, count(*) FROM ({_STUCK_WITH_REASON}) AS stuck GROUP BY reason")
_STUCK_INCIDENTS = text(
    f"{_STUCK_WITH_REASON} ORDER BY last_progress_time, incidents.incident_id LIMIT :most"
)
_MOST_LISTED = 20

# Each hour's counts come from a range of an index: what happened before the last 24 hours is not read.
_HOURS = text("""
    SELECT hour,
        (SELECT count(*) FROM incidents WHERE create_time >= hour AND create_time < hour + interval '1 hour'),
        (SELECT count(*) FROM dispositions WHERE resolve_time >= hour AND resolve_time < hour + interval '1 hour')
    FROM generate_series(
        date_trunc('hour', now()) - interval '23 hours', date_trunc('hour', now()), interval '1 hour') AS hour
    ORDER BY hour
""")

_POSTMORTEMS_24H = text("""
    SELECT resolution_type, count(*) FROM postmortems
    WHERE create_time > now() - interval '24 hours' GROUP BY resolution_type
""")


async def read_figures(engine: AsyncEngine, detailed: bool, *, stuck_after: timedelta) -> IncidentFigures:
    """Return the figures as of one snapshot of the database, with the details when `detailed`."""
    async with engine.execution_options(isolation_level="REPEATABLE READ").begin() as connection:
        return await _read(connection, stuck_after, detailed)


async def _read(connection: AsyncConnection, stuck_after: timedelta, detailed: bool) -> IncidentFigures:
    counters = await read_counters(connection)
    stuck = await _counts(connection, _STUCK, stuck_seconds=stuck_after.total_seconds())
    buckets = [counters.get((_SECONDS_BUCKET, str(bound)), 0) for bound in RESOLUTION_BOUNDS_SECONDS]
    cumulative = [sum(buckets[: place + 1]) for place in range(len(buckets))]
    return IncidentFigures(
        read_time=(await connection.execute(_NOW)).scalar_one(),
        unresolved=await _counts(connection, _UNRESOLVED),
        stuck=sum(stuck.values()),
        stuck_by_reason=stuck,
        opened=_labelled(counters, INCIDENTS_OPENED),
        resolved=_labelled(counters, INCIDENTS_RESOLVED),
        resolution_cumulative=cumulative,
        resolution_count=sum(buckets) + counters.get((_SECONDS_BUCKET, _OVER), 0),
        resolution_seconds_sum=counters.get((_MILLISECONDS_SUM, ""), 0) / 1000,
        postmortems_24h=await _counts(connection, _POSTMORTEMS_24H),
        open_jobs=await count_open(connection),
        details=await _read_details(connection, stuck_after) if detailed else None,
    )


async def _read_details(connection: AsyncConnection, stuck_after: timedelta) -> IncidentDetails:
    stuck = await connection.execute(
        _STUCK_INCIDENTS, {"stuck_seconds": stuck_after.total_seconds(), "most": _MOST_LISTED}
    )
    hours = await connection.execute(_HOURS)
    return IncidentDetails(
        stuck=[StuckIncident(*row) for row in stuck],
        hours=[Hour(*row) for row in hours],
        waiting=await list_waiting(connection, limit=_MOST_LISTED),
    )


async def _counts(
    connection: AsyncConnection, statement: TextClause, **parameters: float
) -> Mapping[str, int]:
    return dict((await connection.execute(statement, parameters)).tuples().all())


def _labelled(counters: Mapping[tuple[str, str], int], name: str) -> Mapping[str, int]:
    return {label: value for (counter, label), value in counters.items() if counter == name}
