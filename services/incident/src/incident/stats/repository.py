"""The statements of the stats: they read counters, partial indexes and the last day's rows, never history."""

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
from incident.stats.model import Hour, IncidentDetails, IncidentStats, StuckIncident
from servicekit.database.counters import MAX_COUNT, read_counters

_NOW = text("SELECT now()")
_UNRESOLVED = text("SELECT state, count(*) FROM incidents WHERE state <> 'RESOLVED' GROUP BY state")

# Stuck incidents and why, by when things happened: entries may arrive late and in any order. Each approval is in the
# furthest state on the timeline; entries without an approval count in their own order. Approvals that were rejected, expired
# or cancelled, and those executed before the incident was reopened, are over; the latest entry of the others is the reason.
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
            SELECT DISTINCT ON (attributes ->> 'approval_id') type, event_time, sequence FROM incident_events
            WHERE incident_id = incidents.incident_id AND type IN ('PROPOSED', 'APPROVED', 'REJECTED', 'EXPIRED',
                'CANCELLED', 'EXECUTED', 'EXECUTION_FAILED')
            ORDER BY attributes ->> 'approval_id', CASE
                WHEN attributes ->> 'approval_id' IS NULL OR type = 'PROPOSED' THEN 0
                WHEN type = 'APPROVED' THEN 1
                ELSE 2 END DESC, event_time DESC, sequence DESC
        ) AS approval
        WHERE type IN ('PROPOSED', 'APPROVED') OR type IN ('EXECUTED', 'EXECUTION_FAILED')
            AND (incidents.resolution_number = 0 OR event_time > incidents.open_time)
        ORDER BY event_time DESC, sequence DESC LIMIT 1
    ) AS latest ON TRUE
    WHERE state <> 'RESOLVED' AND last_progress_time < now() - make_interval(secs => :stuck_seconds)
"""
_STUCK = text(f"SELECT reason, count(*) FROM ({_STUCK_WITH_REASON}) AS stuck GROUP BY reason")
_STUCK_INCIDENTS = text(
    f"{_STUCK_WITH_REASON} ORDER BY last_progress_time, incidents.incident_id LIMIT :limit"
)
_MAX_LISTED = 20

# Each hour's counts come from an index range: rows older than 24 hours are not read.
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


async def read_stats(
    connection: AsyncConnection, *, stuck_after: timedelta, with_details: bool
) -> IncidentStats:
    """Return the stats. The statements must see one snapshot."""
    counters = await read_counters(connection)
    buckets = [
        counters.get((RESOLUTION_SECONDS_BUCKET, str(bound)), 0)
        for bound in (*RESOLUTION_BOUNDS_SECONDS, OVERFLOW_BUCKET)
    ]
    # Also the sum of full counters is one.
    cumulative = list(accumulate(buckets, lambda one, other: min(one + other, MAX_COUNT)))
    return IncidentStats(
        read_time=(await connection.execute(_NOW)).scalar_one(),
        unresolved=await _counts(connection, _UNRESOLVED),
        stuck_by_reason=await _counts(connection, _STUCK, stuck_seconds=stuck_after.total_seconds()),
        stuck_after=stuck_after,
        opened=_labelled(counters, INCIDENTS_OPENED),
        resolved=_labelled(counters, INCIDENTS_RESOLVED),
        resolution_cumulative=cumulative[:-1],
        resolution_count=cumulative[-1],
        resolution_seconds_sum=counters.get((RESOLUTION_MILLISECONDS_SUM, ""), 0) / 1000,
        postmortems_24h=await _counts(connection, _POSTMORTEMS_24H),
        open_side_effects=await count_open(connection),
        dismissed_side_effects=_labelled(counters, SIDE_EFFECTS_DISMISSED),
        details=await _read_details(connection, stuck_after) if with_details else None,
    )


async def _read_details(connection: AsyncConnection, stuck_after: timedelta) -> IncidentDetails:
    stuck = await connection.execute(
        _STUCK_INCIDENTS, {"stuck_seconds": stuck_after.total_seconds(), "limit": _MAX_LISTED}
    )
    hours = await connection.execute(_HOURS)
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
        waiting=await list_open(connection, limit=_MAX_LISTED),
    )


async def _counts(
    connection: AsyncConnection, statement: TextClause, **parameters: float
) -> Mapping[str, int]:
    return {row[0]: row[1] for row in await connection.execute(statement, parameters)}


def _labelled(counters: Mapping[tuple[str, str], int], name: str) -> Mapping[str, int]:
    return {label: value for (counter, label), value in counters.items() if counter == name}
