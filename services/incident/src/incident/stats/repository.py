"""The statements of the stats: each reads counters, or so many entries of an index, never all that callers have stored."""

from collections.abc import Mapping
from datetime import timedelta
from itertools import accumulate

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.counters import (
    INCIDENTS_OPENED,
    INCIDENTS_RESOLVED,
    OVERFLOW_BUCKET,
    RESOLUTION_BOUNDS_SECONDS,
    RESOLUTION_MILLISECONDS_SUM,
    RESOLUTION_SECONDS_BUCKET,
    SIDE_EFFECTS_DISMISSED,
)
from incident.effects.jobs import count_open, list_open
from incident.model import Severity, State
from incident.stats.model import (
    BOUNDS,
    Hour,
    IncidentDetails,
    IncidentStats,
    StatsBounds,
    StuckIncident,
)
from servicekit.database.counters import MAX_COUNT, read_counters

_NOW = text("SELECT now(), (SELECT max(version_num) FROM alembic_version)")
# In the order of the index, so that it is read from there.
_UNRESOLVED = text("""
    SELECT state, count(*) FROM (
        SELECT state FROM incidents WHERE state <> 'RESOLVED' ORDER BY last_progress_time, incident_id LIMIT :max_counted
    ) AS counted GROUP BY state
""")

_IS_STUCK = "state <> 'RESOLVED' AND last_progress_time < now() - make_interval(secs => :stuck_seconds)"
_COUNT_STUCK = text(f"""
    SELECT count(*) FROM (
        SELECT FROM incidents WHERE {_IS_STUCK} ORDER BY last_progress_time, incident_id LIMIT :max_counted) AS counted
""")

# The incidents stuck longest and why, by when things happened: entries may arrive late and in any order. Each approval is in
# the furthest state on the timeline; entries without an approval count in their own order. Approvals that were rejected,
# expired or cancelled, and those executed before the incident was reopened, are over; the latest entry of the others is the
# reason. Of each timeline so many entries about approvals are read, those written last; when these are all of approvals that
# are over, and there are more, nothing is known.
_STUCK_WITH_REASON = f"""
    SELECT stuck.incident_id, title, severity, state, CASE
        WHEN latest.type = 'PROPOSED' THEN 'APPROVAL_PENDING'
        WHEN latest.type = 'APPROVED' THEN 'APPROVED_NOT_EXECUTED'
        WHEN latest.type IN ('EXECUTED', 'RECOVERED') THEN 'EXECUTED_NOT_RESOLVED'
        WHEN latest.type = 'NOT_RECOVERED' THEN 'NOT_RECOVERED'
        WHEN latest.type = 'EXECUTION_FAILED' THEN 'EXECUTION_FAILED'
        WHEN latest.entries >= :max_entries THEN 'NO_PROGRESS'
        ELSE 'NO_APPROVAL' END AS reason, last_progress_time
    FROM (
        SELECT * FROM incidents WHERE {_IS_STUCK} ORDER BY last_progress_time, incident_id LIMIT :max_examined
    ) AS stuck
    CROSS JOIN LATERAL (
        SELECT (array_agg(type ORDER BY event_time DESC, sequence DESC) FILTER (
            WHERE type IN ('PROPOSED', 'APPROVED')
                OR type IN ('EXECUTED', 'EXECUTION_FAILED', 'RECOVERED', 'NOT_RECOVERED')
                AND (stuck.resolution_number = 0 OR event_time > stuck.open_time)))[1] AS type, max(entries) AS entries
        FROM (
            SELECT DISTINCT ON (approval_id) type, event_time, sequence, count(*) OVER () AS entries
            FROM (
                SELECT type, event_time, sequence, attributes ->> 'approval_id' AS approval_id FROM incident_events
                WHERE incident_id = stuck.incident_id AND type IN ('PROPOSED', 'APPROVED', 'REJECTED', 'EXPIRED',
                    'CANCELLED', 'EXECUTED', 'EXECUTION_FAILED', 'RECOVERED', 'NOT_RECOVERED')
                ORDER BY sequence DESC LIMIT :max_entries
            ) AS entry
            ORDER BY approval_id, CASE
                WHEN approval_id IS NULL OR type = 'PROPOSED' THEN 0
                WHEN type = 'APPROVED' THEN 1
                WHEN type IN ('RECOVERED', 'NOT_RECOVERED') THEN 3
                ELSE 2 END DESC, event_time DESC, sequence DESC
        ) AS approval
    ) AS latest
"""
_STUCK_REASONS = text(f"SELECT reason, count(*) FROM ({_STUCK_WITH_REASON}) AS stuck GROUP BY reason")
_STUCK_INCIDENTS = text(f"{_STUCK_WITH_REASON} ORDER BY last_progress_time, stuck.incident_id")
_NOT_EXAMINED = "NO_PROGRESS"
_MAX_LISTED = 20

# Each hour's counts come from an index range: rows older than 24 hours are not read.
_HOURS = text("""
    SELECT hour,
        (SELECT count(*) FROM (
            SELECT FROM incidents WHERE create_time >= hour AND create_time < hour + interval '1 hour'
            LIMIT :max_of_hour) AS counted),
        (SELECT count(*) FROM (
            SELECT FROM dispositions WHERE resolve_time >= hour AND resolve_time < hour + interval '1 hour'
            LIMIT :max_of_hour) AS counted)
    FROM generate_series(
        date_trunc('hour', now()) - interval '23 hours', date_trunc('hour', now()), interval '1 hour') AS hour
    ORDER BY hour
""")

_POSTMORTEMS_24H = text("""
    SELECT resolution_type, count(*) FROM (
        SELECT resolution_type FROM postmortems WHERE create_time > now() - interval '24 hours'
        ORDER BY create_time DESC, resolution_type DESC LIMIT :max_counted) AS counted
    GROUP BY resolution_type
""")


async def read_stats(
    connection: AsyncConnection, *, stuck_after: timedelta, with_details: bool, bounds: StatsBounds = BOUNDS
) -> IncidentStats:
    """Return the stats. The statements must see one snapshot; within `bounds` their cost does not depend on what is stored."""
    read_time, revision = (await connection.execute(_NOW)).one()
    counters = await read_counters(connection)
    buckets = [
        counters.get((RESOLUTION_SECONDS_BUCKET, str(bound)), 0)
        for bound in (*RESOLUTION_BOUNDS_SECONDS, OVERFLOW_BUCKET)
    ]
    # Also the sum of full counters is one.
    cumulative = list(accumulate(buckets, lambda one, other: min(one + other, MAX_COUNT)))
    return IncidentStats(
        read_time=read_time,
        database_revision=revision or "",
        unresolved=await _counts(connection, _UNRESOLVED, max_counted=bounds.counted),
        stuck_by_reason=await _stuck_by_reason(connection, stuck_after, bounds),
        stuck_after=stuck_after,
        opened=_labelled(counters, INCIDENTS_OPENED),
        resolved=_labelled(counters, INCIDENTS_RESOLVED),
        resolution_cumulative=cumulative[:-1],
        resolution_count=cumulative[-1],
        resolution_seconds_sum=counters.get((RESOLUTION_MILLISECONDS_SUM, ""), 0) / 1000,
        postmortems_24h=await _counts(connection, _POSTMORTEMS_24H, max_counted=bounds.counted),
        open_side_effects=await count_open(connection, max_counted=bounds.jobs),
        dismissed_side_effects=_labelled(counters, SIDE_EFFECTS_DISMISSED),
        details=await _read_details(connection, stuck_after, bounds) if with_details else None,
    )


async def _stuck_by_reason(
    connection: AsyncConnection, stuck_after: timedelta, bounds: StatsBounds
) -> Mapping[str, int]:
    seconds = stuck_after.total_seconds()
    count: int = (
        await connection.execute(_COUNT_STUCK, {"stuck_seconds": seconds, "max_counted": bounds.counted})
    ).scalar_one()
    reasons = await _counts(
        connection,
        _STUCK_REASONS,
        stuck_seconds=seconds,
        max_examined=bounds.examined,
        max_entries=bounds.entries,
    )
    others = count - sum(reasons.values())
    return {**reasons, _NOT_EXAMINED: reasons.get(_NOT_EXAMINED, 0) + others} if others else reasons


async def _read_details(
    connection: AsyncConnection, stuck_after: timedelta, bounds: StatsBounds
) -> IncidentDetails:
    stuck = await connection.execute(
        _STUCK_INCIDENTS,
        {
            "stuck_seconds": stuck_after.total_seconds(),
            "max_examined": _MAX_LISTED,
            "max_entries": bounds.entries,
        },
    )
    hours = await connection.execute(_HOURS, {"max_of_hour": bounds.of_hour})
    return IncidentDetails(
        stuck=[
            StuckIncident(
                row.incident_id,
                row.title,
                Severity(row.severity),
                State(row.state),
                row.reason,
                row.last_progress_time,
            )
            for row in stuck
        ],
        hours=[Hour(*row) for row in hours],
        waiting=await list_open(connection, limit=_MAX_LISTED, max_read=bounds.jobs),
    )


async def _counts(
    connection: AsyncConnection, statement: TextClause, **parameters: float
) -> Mapping[str, int]:
    return {row[0]: row[1] for row in await connection.execute(statement, parameters)}


def _labelled(counters: Mapping[tuple[str, str], int], name: str) -> Mapping[str, int]:
    return {label: value for (counter, label), value in counters.items() if counter == name}
