"""The statements of the stats: each reads counters, or so many entries of an index, never all that callers have stored."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Float

from approval.counters import (
    APPROVALS,
    DELIVERIES_DISMISSED,
    EXECUTIONS,
    NOOP_RESOLUTIONS,
    RECOVERIES,
    SUPERSEDED,
)
from approval.delivery.comparison_repository import count_unknown
from approval.delivery.model import DeliveryTopic
from approval.delivery.repository import list_open
from approval.delivery.topics import delivery_topic
from approval.model import Risk
from approval.stats.model import (
    BOUNDS,
    WINDOW,
    ApprovalStats,
    ApprovalStatsDetails,
    PendingApproval,
    RecoveryStats,
    StatsBounds,
    TopicStats,
)
from servicekit.database.counters import read_counters
from servicekit.outbox.jobs import JobState
from servicekit.outbox.open_jobs import OpenJobs, count_open

_NOW = text("SELECT now(), (SELECT max(version_num) FROM alembic_version)")
# The latest ones, when there are too many.
_SAMPLES = text("""
    SELECT count(*), count(*) FILTER (WHERE succeeded) FROM (
        SELECT succeeded FROM auto_repair_executions
        WHERE finish_time > now() - make_interval(secs => :window_seconds)
        ORDER BY finish_time DESC LIMIT :max_counted) AS counted
""").bindparams(bindparam("window_seconds", type_=Float))
_RECOVERED = text("""
    SELECT count(*), count(*) FILTER (WHERE recovery = 'VERIFIED') FROM (
        SELECT recovery FROM approvals
        WHERE recovery IN ('VERIFIED', 'NOT_RECOVERED') AND recovery_time > now() - make_interval(secs => :window_seconds)
        ORDER BY recovery_time DESC LIMIT :max_counted) AS counted
""").bindparams(bindparam("window_seconds", type_=Float))
_RECOVERIES = text("""
    SELECT
        (SELECT count(*) FROM (SELECT FROM recoveries LIMIT :max_counted) AS counted),
        (SELECT greatest(coalesce(extract(epoch FROM now() - min(deadline)), 0), 0)::float8 FROM recoveries)
""")
_OLDEST_PENDING = text("""
    SELECT greatest(coalesce(extract(epoch FROM now() - min(create_time)), 0), 0)::float8 FROM approvals WHERE state = 'PENDING'
""")


_PENDING = text("""
    SELECT approval_id, incident_id, action, risk, create_time, expire_time FROM approvals
    WHERE state = 'PENDING' ORDER BY create_time LIMIT :limit
""")
_HOURS = text("""
    SELECT hour, CASE
        WHEN finished.operation_kind = 'NO_ACTION' THEN 'NOOP'
        -- Closed by an operator after it was INDETERMINATE.
        WHEN state = 'CANCELLED' THEN 'INDETERMINATE'
        ELSE state END AS outcome, count(state)
    FROM generate_series(
        date_trunc('hour', now()) - interval '23 hours', date_trunc('hour', now()), interval '1 hour') AS hour
    LEFT JOIN LATERAL (
        SELECT state, operation_kind FROM approvals
        WHERE finish_time >= hour AND finish_time < hour + interval '1 hour' AND NOT canary LIMIT :max_of_hour
    ) AS finished ON TRUE
    GROUP BY hour, outcome ORDER BY hour
""")
_MAX_LISTED = 20


async def read_stats(
    connection: AsyncConnection, *, with_details: bool, bounds: StatsBounds = BOUNDS
) -> ApprovalStats:
    """Return the stats; they are consistent when the connection reads one snapshot.

    Within `bounds` their cost does not depend on what is stored.
    """
    samples, successes = (
        await connection.execute(
            _SAMPLES, {"window_seconds": WINDOW.total_seconds(), "max_counted": bounds.counted}
        )
    ).one()
    oldest_pending = (await connection.execute(_OLDEST_PENDING)).scalar_one()
    read_time, revision = (await connection.execute(_NOW)).one()
    counters = await read_counters(connection)
    opened = await count_open(connection, max_counted=bounds.jobs)
    dismissed = _labelled(counters, DELIVERIES_DISMISSED)
    return ApprovalStats(
        read_time=read_time,
        database_revision=revision or "",
        samples=samples,
        successes=successes,
        executions=_labelled(counters, EXECUTIONS),
        # It may go down, and a reader of stats refuses what is negative, with all the rest.
        noop_resolutions=max(counters.get((NOOP_RESOLUTIONS, ""), 0), 0),
        approvals=_labelled(counters, APPROVALS),
        approval_oldest_pending_seconds=oldest_pending,
        approvals_incident_unknown=await count_unknown(connection, max_counted=bounds.counted),
        approvals_superseded=counters.get((SUPERSEDED, ""), 0),
        deliveries={topic: _topic(topic, opened, dismissed.get(topic, 0)) for topic in DeliveryTopic},
        recoveries=await _read_recoveries(connection, counters, bounds),
        details=await _read_details(connection, bounds) if with_details else None,
    )


async def _read_recoveries(
    connection: AsyncConnection, counters: Mapping[tuple[str, str], int], bounds: StatsBounds
) -> RecoveryStats:
    samples, verified = (
        await connection.execute(
            _RECOVERED, {"window_seconds": WINDOW.total_seconds(), "max_counted": bounds.counted}
        )
    ).one()
    pending, overdue = (await connection.execute(_RECOVERIES, {"max_counted": bounds.jobs})).one()
    return RecoveryStats(samples, verified, _labelled(counters, RECOVERIES), pending, overdue)


def _topic(topic: DeliveryTopic, opened: Sequence[OpenJobs], dismissed: int) -> TopicStats:
    mine = [each for each in opened if delivery_topic(each.topic) is topic]
    counts: dict[str, int] = {}
    for each in mine:
        # Several topics of other versions are one kind.
        counts[each.state] = counts.get(each.state, 0) + each.count
    ages = [each.oldest_seconds for each in mine if each.state == JobState.PENDING]
    return TopicStats(counts, max(ages, default=0.0), dismissed)


async def _read_details(connection: AsyncConnection, bounds: StatsBounds) -> ApprovalStatsDetails:
    hours: dict[datetime, dict[str, int]] = {}
    for hour, outcome, count in await connection.execute(_HOURS, {"max_of_hour": bounds.of_hour}):
        counts = hours.setdefault(hour, {})
        if count:
            counts[outcome] = count
    pending = await connection.execute(_PENDING, {"limit": _MAX_LISTED})
    return ApprovalStatsDetails(
        pending=[
            PendingApproval(
                row.approval_id,
                row.incident_id,
                row.action,
                Risk(row.risk),
                row.create_time,
                row.expire_time,
            )
            for row in pending
        ],
        waiting=await list_open(connection, limit=_MAX_LISTED, max_read=bounds.jobs),
        hours=hours,
    )


def _labelled(counters: Mapping[tuple[str, str], int], name: str) -> Mapping[str, int]:
    return {label: value for (counter, label), value in counters.items() if counter == name}
