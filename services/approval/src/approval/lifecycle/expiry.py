"""Marks approvals that nobody decided or executed in time, a few at a time."""

import asyncio
from collections import Counter
from datetime import timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from approval.delivery.timeline import timeline_job
from approval.lifecycle.repository import APPROVALS, get
from approval.model import State, TimelineEvent
from servicekit.database.counters import raise_counters
from servicekit.database.engine import is_unavailable
from servicekit.outbox import queue

_log = structlog.get_logger()
_BATCH = 100

# Nothing depends on when this runs: an approval past its expiry is refused from that instant on. It makes the state, the
# figures and the timeline say so.
_EXPIRE = text("""
    UPDATE approvals SET
        state = 'EXPIRED', decide_time = coalesce(decide_time, now()), update_time = now(), version = version + 1
    FROM (
        SELECT approval_id, state FROM approvals
        WHERE state IN ('PENDING', 'APPROVED') AND expire_time <= now()
        ORDER BY expire_time LIMIT :limit
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS waiting
    WHERE approvals.approval_id = waiting.approval_id
    RETURNING waiting.state, approvals.approval_id
""")


async def expire(engine: AsyncEngine, *, counter_shard: int, limit: int = _BATCH) -> int:
    """Mark at most `limit` approvals that are past their expiry as EXPIRED; returns how many."""
    async with engine.begin() as connection:
        expired = (await connection.execute(_EXPIRE, {"limit": limit})).all()
        if expired:
            amounts = {
                (APPROVALS, state): -count for state, count in Counter(row.state for row in expired).items()
            }
            await raise_counters(
                connection, {**amounts, (APPROVALS, State.EXPIRED): len(expired)}, shard=counter_shard
            )
            approvals = await get(connection, [row.approval_id for row in expired])
            await queue.enqueue(
                connection,
                [
                    timeline_job(approval, TimelineEvent.EXPIRED, summary=approval.action)
                    for approval in approvals.values()
                ],
            )
    return len(expired)


async def keep_expiring(engine: AsyncEngine, *, every: timedelta, counter_shard: int) -> None:
    """Mark approvals as they expire, until cancelled."""
    while True:
        try:
            expired = await expire(engine, counter_shard=counter_shard)
        except Exception as exc:
            _log.warning("expiry_failed", error=type(exc).__name__, database_away=is_unavailable(exc))
            expired = 0
        if expired:
            _log.info("approvals_expired", approvals=expired)
        if expired < _BATCH:
            await asyncio.sleep(every.total_seconds())
