"""Incidents that were resolved long ago, with every row of theirs."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg

from incident.lifecycle import retention
from incident.model import Effect
from servicekit.outbox.transaction import Transactions
from servicekit.retention import Removal, remove_batch
from tests.incident.incidents import new_id

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

KEEP = timedelta(days=30)
TABLES = (
    "incidents",
    "incident_events",
    "create_requests",
    "postmortems",
    "dispositions",
    "knowledge_uses",
    "outbox",
)


async def insert_resolved(
    rows: "Rows", *, days_ago: float, resolutions: int = 1, state: str = "RESOLVED"
) -> str:
    """Insert an incident and every row of its resolutions; in another state, as it is after a reopening."""
    incident_id = new_id()
    done = state == "RESOLVED"
    await rows.execute(
        """
        INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by,
            content_hash, create_time, last_progress_time, resolve_time, resolution_type, resolution_number)
        SELECT $1, 'old', '', 'LOW', $2, '', '{}', '', 'tester', '', ago, ago, CASE WHEN $3 THEN ago END,
            CASE WHEN $3 THEN 'HUMAN' END, $5
        FROM (SELECT now() - make_interval(secs => $4 * 86400)) AS old (ago)
        """,
        incident_id,
        state,
        done,
        days_ago,
        resolutions,
    )
    await rows.execute(
        "INSERT INTO create_requests (request_id, content_hash, incident_id, deduplicated) VALUES ($1, '', $1, false)",
        incident_id,
    )
    numbers = list(range(1, resolutions + 1))
    for statement in (
        """
        INSERT INTO incident_events (event_id, incident_id, type, actor, summary, resolution_number)
        SELECT $1 || '/' || number, $1, 'RESOLVED', 'tester', '', number FROM unnest($2::int[]) AS number
        """,
        """
        INSERT INTO postmortems (incident_id, resolution_number, resolution_type, markdown)
        SELECT $1, number, 'HUMAN', '' FROM unnest($2::int[]) AS number
        """,
        """
        INSERT INTO dispositions (incident_id, resolution_number, resolution_type, severity, resolve_time, resolution_seconds)
        SELECT $1, number, 'HUMAN', 'LOW', now(), 1 FROM unnest($2::int[]) AS number
        """,
        """
        INSERT INTO knowledge_uses (incident_id, resolution_number, knowledge_id, held)
        SELECT $1, number, 'known', true FROM unnest($2::int[]) AS number
        """,
    ):
        await rows.execute(statement, incident_id, numbers)
    await rows.execute(
        """
        INSERT INTO outbox (topic, dedup_key, payload, state, done_time)
        SELECT topic, $1 || '/' || number, jsonb_build_object('incident_id', $1::text, 'resolution_number', number),
            'DONE', now()
        FROM unnest($2::int[]) AS number, unnest($3::text[]) AS topic
        """,
        incident_id,
        numbers,
        [effect.topic for effect in Effect],
    )
    return incident_id


async def remove_old(transactions: Transactions, **options: Any) -> Removal:
    return await remove_batch(transactions, partial(retention.remove_old, **options))


async def left(rows: "Rows") -> set[str]:
    return {row["incident_id"] for row in await rows.fetch("SELECT incident_id FROM incidents")}


async def counted(rows: "Rows") -> Mapping[str, int]:
    """How many rows each table has."""
    return {table: await rows.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}  # noqa: S608 - constants
