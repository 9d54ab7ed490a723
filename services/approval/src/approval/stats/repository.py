"""The stats of this service: read from counters, partial indexes and the last day's rows, never from history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Float

from approval.counters import APPROVALS, EXECUTIONS, NOOP_RESOLUTIONS
from approval.delivery.model import Delivery
from approval.delivery.repository import list_open
from approval.delivery.resolve_job import RESOLVE_TOPIC
from servicekit.database.counters import read_counters
from servicekit.outbox.jobs import JobState, count_open
from servicekit.outbox.transaction import Transactions

WINDOW = timedelta(hours=24)

_NOW = text("SELECT now()")


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """An approval that waits for a decision."""

    approval_id: str
    incident_id: str
    action: str
    risk: str
    create_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class ApprovalStatsDetails:
    """The details of VIEW_FULL: at most twenty of each list, and the last 24 hours."""

    pending: Sequence[PendingApproval]
    waiting: Sequence[Delivery]
    # For each hour's beginning, oldest first, the executions that ended in it by outcome.
    hours: Mapping[datetime, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class ApprovalStats:
    """All stats of this service; `details` only when they were asked for."""

    # By the database's clock.
    read_time: datetime
    samples: int
    successes: int
    executions: Mapping[str, int]
    noop_resolutions: int
    approvals: Mapping[str, int]
    approval_oldest_pending_seconds: float
    # PENDING and PARKED; a state without any is not there.
    deliveries: Mapping[str, int]
    delivery_oldest_pending_seconds: float
    details: ApprovalStatsDetails | None


_SAMPLES = text("""
    SELECT count(*), count(*) FILTER (WHERE succeeded) FROM auto_repair_executions
    WHERE finish_time > now() - make_interval(secs => :window_seconds)
""").bindparams(bindparam("window_seconds", type_=Float))
_OLDEST_PENDING = text("""
    SELECT coalesce(extract(epoch FROM now() - min(create_time)), 0)::float8 FROM approvals WHERE state = 'PENDING'
""")


_PENDING = text("""
    SELECT approval_id, incident_id, action, risk, create_time, expire_time FROM approvals
    WHERE state = 'PENDING' ORDER BY create_time LIMIT :limit
""")
_HOURS = text("""
    SELECT hour, CASE
        WHEN operation_kind = 'NO_ACTION' THEN 'NOOP'
        -- Closed by an operator after it was INDETERMINATE.
        WHEN state = 'CANCELLED' THEN 'INDETERMINATE'
        ELSE state END AS outcome, count(state)
    FROM generate_series(
        date_trunc('hour', now()) - interval '23 hours', date_trunc('hour', now()), interval '1 hour') AS hour
    LEFT JOIN approvals ON finish_time >= hour AND finish_time < hour + interval '1 hour'
    GROUP BY hour, outcome ORDER BY hour
""")
_MAX_LISTED = 20


async def read_stats(transactions: Transactions, detailed: bool) -> ApprovalStats:
    """Return the stats of one snapshot of the database, with the details when `detailed`."""
    async with transactions.snapshot() as connection:
        return await _read(connection, detailed)


async def _read(connection: AsyncConnection, detailed: bool) -> ApprovalStats:
    samples, successes = (
        await connection.execute(_SAMPLES, {"window_seconds": WINDOW.total_seconds()})
    ).one()
    oldest_pending = (await connection.execute(_OLDEST_PENDING)).scalar_one()
    counters = await read_counters(connection)
    resolves = [job for job in await count_open(connection) if job.topic == RESOLVE_TOPIC]
    return ApprovalStats(
        read_time=(await connection.execute(_NOW)).scalar_one(),
        samples=samples,
        successes=successes,
        executions=_labelled(counters, EXECUTIONS),
        noop_resolutions=counters.get((NOOP_RESOLUTIONS, ""), 0),
        approvals=_labelled(counters, APPROVALS),
        approval_oldest_pending_seconds=oldest_pending,
        deliveries={job.state: job.count for job in resolves},
        delivery_oldest_pending_seconds=max(
            (job.oldest_seconds for job in resolves if job.state == JobState.PENDING), default=0.0
        ),
        details=await _read_details(connection) if detailed else None,
    )


async def _read_details(connection: AsyncConnection) -> ApprovalStatsDetails:
    hours: dict[datetime, dict[str, int]] = {}
    for hour, outcome, count in await connection.execute(_HOURS):
        counts = hours.setdefault(hour, {})
        if count:
            counts[outcome] = count
    pending = await connection.execute(_PENDING, {"limit": _MAX_LISTED})
    return ApprovalStatsDetails(
        pending=[PendingApproval(*row) for row in pending],
        waiting=await list_open(connection, limit=_MAX_LISTED),
        hours=hours,
    )


def _labelled(counters: Mapping[tuple[str, str], int], name: str) -> Mapping[str, int]:
    return {label: value for (counter, label), value in counters.items() if counter == name}
