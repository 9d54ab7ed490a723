"""Removes incidents that were resolved long ago, with all their rows, a few at a time."""

import asyncio
from datetime import timedelta

import structlog
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import Float, Text

from incident.model import Effect
from servicekit.database.engine import autocommit, is_unavailable

_log = structlog.get_logger()
_BATCH = 100
_PAUSE_SECONDS = 0.1
_IDLE_SECONDS = 60.0

# An incident with a side effect that still waits, or that an operator has to look at, stays until that has ended.
# Events, postmortems, dispositions and answered requests go with their incident; what was learnt stays.
_REMOVE = text("""
    WITH old AS (
        SELECT incident_id, resolution_number FROM incidents
        WHERE state = 'RESOLVED' AND resolve_time < now() - make_interval(secs => :keep_seconds)
            AND NOT EXISTS (
                SELECT FROM outbox
                WHERE topic = ANY (:topics) AND state IN ('PENDING', 'PARKED') AND dedup_key IN (
                    SELECT incident_id || '/' || number FROM generate_series(1, resolution_number) AS number))
        ORDER BY resolve_time LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ), jobs AS (
        DELETE FROM outbox USING old, generate_series(1, old.resolution_number) AS number
        WHERE topic = ANY (:topics) AND dedup_key = old.incident_id || '/' || number
    )
    DELETE FROM incidents USING old WHERE incidents.incident_id = old.incident_id
""").bindparams(bindparam("topics", type_=ARRAY(Text)), bindparam("keep_seconds", type_=Float))


async def remove_old(engine: AsyncEngine, *, keep: timedelta, limit: int) -> int:
    """Remove at most `limit` incidents that were resolved longer ago than `keep`; returns how many."""
    async with autocommit(engine).connect() as connection:
        result = await connection.execute(
            _REMOVE,
            {
                "keep_seconds": keep.total_seconds(),
                "topics": [effect.topic for effect in Effect],
                "limit": limit,
            },
        )
        return result.rowcount


async def keep_removing(engine: AsyncEngine, *, keep: timedelta | None) -> None:
    """Remove old incidents as they grow old, until cancelled; None keeps them for ever."""
    if keep is None:
        await asyncio.Event().wait()
        return
    while True:
        try:
            removed = await remove_old(engine, keep=keep, limit=_BATCH)
        except Exception as exc:
            _log.warning("retention_failed", error=type(exc).__name__, database_away=is_unavailable(exc))
            removed = 0
        if removed:
            _log.info("incidents_removed", incidents=removed)
        # Small batches with a pause between them: removal never holds up a Resolve.
        await asyncio.sleep(_PAUSE_SECONDS if removed == _BATCH else _IDLE_SECONDS)
