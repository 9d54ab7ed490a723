"""Retention: removes incidents that were resolved long ago, with all their rows but their ids, in small batches."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import accumulate

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Float, Integer, Text

from incident.lifecycle.effect_jobs import dedup_key, dedup_key_sql, latest_numbers_sql, latest_resolutions
from incident.model import OWN_ACTOR, Effect
from servicekit.audit.model import background
from servicekit.outbox.jobs import remove_ended
from servicekit.outbox.sql import open_job_exists
from servicekit.outbox.transaction import Transaction
from servicekit.retention import BATCH, Removal

# An incident may have any number of timeline entries and answered requests: a batch has a bound for those as well.
_MAX_ROWS = 5000

# An incident stays as long as a side effect of it is PENDING or PARKED. A row that another transaction has locked is
# left for a later batch.
# The outbox has an incident id, too.
_DEDUP_KEY = dedup_key_sql(incident_id="incidents.incident_id", resolution_number="number")
_HAS_OPEN = f"""
    EXISTS (
        SELECT FROM unnest(:topics) AS effect (topic), {latest_numbers_sql("resolution_number")} AS number
        WHERE {open_job_exists(topic="effect.topic", dedup_key=_DEDUP_KEY)})
"""
_LOCK_OLD = text(f"""
    SELECT incident_id, resolution_number FROM incidents
    WHERE state = 'RESOLVED' AND resolve_time < now() - make_interval(secs => :keep_seconds) AND NOT {_HAS_OPEN}
    ORDER BY resolve_time LIMIT :limit
    FOR UPDATE SKIP LOCKED
""").bindparams(bindparam("topics", type_=ARRAY(Text)), bindparam("keep_seconds", type_=Float))
_HAS_OPEN_EFFECTS = text(f"SELECT {_HAS_OPEN} FROM incidents WHERE incident_id = :incident_id").bindparams(
    bindparam("topics", type_=ARRAY(Text))
)
_TOPICS = [effect.topic for effect in Effect]
# How many timeline entries and requests each incident has; beyond the limit how many is not counted.
_COUNT_ROWS = text("""
    SELECT (SELECT count(*) FROM (
            SELECT FROM incident_events WHERE incident_id = old.incident_id LIMIT :limit + 1) AS counted)
        + (SELECT count(*) FROM (
            SELECT FROM create_requests WHERE incident_id = old.incident_id LIMIT :limit + 1) AS counted)
    FROM unnest(:incident_ids) WITH ORDINALITY AS old (incident_id, position) ORDER BY position
""").bindparams(bindparam("incident_ids", type_=ARRAY(Text)), bindparam("limit", type_=Integer))
# Events, postmortems, dispositions and answered requests are removed by cascade; knowledge stays.
_REMOVE = text("DELETE FROM incidents WHERE incident_id = ANY (:incident_ids)").bindparams(
    bindparam("incident_ids", type_=ARRAY(Text))
)
# The id outlives the incident, one that a caller gave to two incidents in turn as well.
_REMEMBER = text("""
    INSERT INTO removed_incidents (incident_id, openings)
    SELECT * FROM unnest(:incident_ids, :openings)
    ON CONFLICT (incident_id) DO UPDATE SET openings = excluded.openings, remove_time = now()
""").bindparams(bindparam("incident_ids", type_=ARRAY(Text)), bindparam("openings", type_=ARRAY(Integer)))


async def remove_old(
    transaction: Transaction, *, keep: timedelta, limit: int = BATCH, max_rows: int = _MAX_ROWS
) -> Removal:
    """Remove at most `limit` incidents that were resolved longer ago than `keep`, with `max_rows` rows in all.

    One that has more rows by itself is removed alone, after those that have not: it keeps none of them.
    """
    connection = transaction.connection
    rows = await connection.execute(
        _LOCK_OLD, {"keep_seconds": keep.total_seconds(), "topics": _TOPICS, "limit": limit}
    )
    resolution_numbers = {row.incident_id: row.resolution_number for row in rows}
    has_more = len(resolution_numbers) == limit
    counts = await _count_rows(connection, list(resolution_numbers), max_rows)
    chosen = _within(max_rows, dict(zip(resolution_numbers, counts, strict=True)))
    has_more = has_more or len(chosen) < len(resolution_numbers)
    resolution_numbers = {incident_id: resolution_numbers[incident_id] for incident_id in chosen}
    if not resolution_numbers:
        return Removal(0, has_more=False)
    await remove(transaction, resolution_numbers)
    transaction.record(background("retention", OWN_ACTOR), *resolution_numbers)
    return Removal(len(resolution_numbers), has_more)


async def remove(transaction: Transaction, resolution_numbers: Mapping[str, int]) -> None:
    """Remove locked RESOLVED incidents without an open side effect, given with the number of their last resolution."""
    connection = transaction.connection
    keys = [
        dedup_key(key)
        for incident_id, latest in resolution_numbers.items()
        for key in latest_resolutions(incident_id, latest)
    ]
    for topic in _TOPICS:
        await remove_ended(connection, topic, keys)
    await connection.execute(_REMOVE, {"incident_ids": list(resolution_numbers)})
    await connection.execute(
        _REMEMBER,
        {"incident_ids": list(resolution_numbers), "openings": list(resolution_numbers.values())},
    )


async def has_open_side_effects(connection: AsyncConnection, incident_id: str) -> bool:
    """Return whether a side effect of an incident is PENDING or PARKED."""
    parameters = {"incident_id": incident_id, "topics": _TOPICS}
    return bool((await connection.execute(_HAS_OPEN_EFFECTS, parameters)).scalar_one())


def _within(max_rows: int, counts: Mapping[str, int]) -> Sequence[str]:
    """Return the first incidents with `max_rows` rows in all; when each has more, the first of them."""
    small = [incident_id for incident_id, count in counts.items() if count <= max_rows]
    totals = accumulate(counts[incident_id] for incident_id in small)
    return [
        incident_id for incident_id, total in zip(small, totals, strict=True) if total <= max_rows
    ] or list(counts)[:1]


async def _count_rows(connection: AsyncConnection, incident_ids: Sequence[str], limit: int) -> Sequence[int]:
    counts = await connection.execute(_COUNT_ROWS, {"incident_ids": list(incident_ids), "limit": limit})
    return list(counts.scalars())
