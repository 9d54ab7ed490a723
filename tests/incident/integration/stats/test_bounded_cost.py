"""The stats cost the same, however much callers have stored."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from incident.stats import repository
from incident.stats.model import StatsBounds
from servicekit.database.engine import create_engine
from tests.explained import rows_read

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

STUCK_AFTER = timedelta(minutes=30)
BOUNDS = StatsBounds(counted=40, examined=6, entries=10, jobs=20, of_hour=15)

# Stuck incidents, each with entries of approvals that are over; what they caused, in one hour; and open side effects.
STORE = """
    WITH stored AS (
        INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by,
            content_hash, last_progress_time)
        SELECT 'INC-' || number, '', '', 'HIGH', 'OPEN', '', '{}', '', '', '', now() - interval '1 day'
        FROM generate_series($1::int, $2::int) AS number
        RETURNING incident_id
    ), events AS (
        INSERT INTO incident_events (event_id, incident_id, type, actor, summary, attributes, resolution_number)
        SELECT incident_id || '/' || number, incident_id, 'REJECTED', '', '',
            jsonb_build_object('approval_id', number), 0
        FROM stored, generate_series(1, 12) AS number
    ), postmortem AS (
        INSERT INTO postmortems (incident_id, resolution_number, resolution_type, markdown)
        SELECT incident_id, 1, 'HUMAN', '' FROM stored
    ), disposition AS (
        INSERT INTO dispositions (incident_id, resolution_number, resolution_type, severity, resolve_time, resolution_seconds)
        SELECT incident_id, 1, 'HUMAN', 'HIGH', now(), 1 FROM stored
    )
    INSERT INTO outbox (topic, dedup_key, payload, state, next_attempt_time)
    SELECT 'effect.' || topic, incident_id,
        jsonb_build_object('incident_id', incident_id, 'resolution_number', 1, 'resolution_type', 'HUMAN',
            'resolution_seconds', 1), state, now() + interval '1 day'
    FROM stored, unnest('{webhook,postmortem,of.another.version}'::text[], '{PENDING,PARKED,PARKED}'::text[])
        AS job (topic, state)
"""


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database, application_name="tests", pool_size=2)
    yield engine
    await engine.dispose()


async def store(database: str, first: int, last: int) -> None:
    rows = await asyncpg.connect(database)
    await rows.execute(STORE, first, last)
    await rows.execute("ANALYZE")
    await rows.close()


async def test_no_statement_reads_more_rows_when_more_is_stored(database: str, engine: AsyncEngine) -> None:
    async def read(connection: AsyncConnection) -> object:
        return await repository.read_stats(
            connection, stuck_after=STUCK_AFTER, with_details=True, bounds=BOUNDS
        )

    # More than every bound, except that the twenty in the lists have all entries that are read of them.
    await store(database, 1, 100)
    before = await rows_read(engine, read)
    await store(database, 101, 1000)
    after = await rows_read(engine, read)
    assert after == before
    assert sum(after.values()) < 1000


async def test_beyond_the_bounds_there_are_at_least_so_many(database: str, engine: AsyncEngine) -> None:
    await store(database, 1, 100)
    async with engine.connect() as connection:
        stats = await repository.read_stats(
            connection, stuck_after=STUCK_AFTER, with_details=True, bounds=BOUNDS
        )
    assert stats.unresolved == {"OPEN": 40}
    # Which approvals are open, entries beyond those that were read may say.
    assert stats.stuck_by_reason == {"NO_PROGRESS": 40}
    assert stats.postmortems_24h == {"HUMAN": 40}
    assert set(stats.open_side_effects.counts.values()) == {20}
    assert stats.details is not None
    assert {incident.reason for incident in stats.details.stuck} == {"NO_PROGRESS"}
    assert len(stats.details.stuck) == len(stats.details.waiting) == 20
    assert max(hour.opened for hour in stats.details.hours) == 15
    assert max(hour.resolved for hour in stats.details.hours) == 15


async def test_up_to_the_bounds_the_stats_are_exact(database: str, engine: AsyncEngine) -> None:
    await store(database, 1, 15)
    bounds = StatsBounds(counted=15, examined=15, entries=13, jobs=15, of_hour=15)
    async with engine.connect() as connection:
        exact = await repository.read_stats(connection, stuck_after=STUCK_AFTER, with_details=True)
        bounded = await repository.read_stats(
            connection, stuck_after=STUCK_AFTER, with_details=True, bounds=bounds
        )
    assert bounded.stuck_by_reason == {"NO_APPROVAL": 15}
    assert (bounded.stuck_by_reason, bounded.unresolved) == (exact.stuck_by_reason, exact.unresolved)
    assert bounded.open_side_effects.counts == exact.open_side_effects.counts
    assert bounded.postmortems_24h == exact.postmortems_24h
