"""The stats cost the same, however much callers have stored."""

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from approval.stats import repository
from approval.stats.model import StatsBounds
from servicekit.database.engine import create_engine
from tests.explained import rows_read

BOUNDS = StatsBounds(counted=40, jobs=20, of_hour=15)

# Approvals that were executed, and such that wait, both of unknown incidents; their executions, and open deliveries.
STORE = """
    WITH stored AS (
        INSERT INTO approvals (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, hook,
            parse_error, action_hash, risk, rationale, required_approvals, auto_execute, state, proposed_by,
            incident_verified, expire_time, finish_time, content_hash, incident_unknown_time)
        SELECT 'APR-' || number || state, 'INC-1', 'x', 'NO_ACTION', '', '', '', '', '', '', 'LOW', '', 1, false, state, '',
            false, now() + interval '1 day', finish_time, '', now()
        FROM generate_series($1::int, $2::int) AS number,
            (VALUES ('PENDING', NULL), ('SUCCEEDED', now())) AS kind (state, finish_time)
        RETURNING approval_id, state
    ), execution AS (
        INSERT INTO auto_repair_executions (approval_id, incident_id, target, operation, succeeded, output, error, executor,
            start_time)
        SELECT approval_id, 'INC-1', '', '{}', true, '', '', '', now() FROM stored WHERE state = 'SUCCEEDED'
    )
    INSERT INTO outbox (topic, dedup_key, payload, state, next_attempt_time)
    SELECT topic, approval_id, '{}', job.state, now() + interval '1 day'
    FROM stored, unnest('{one.of.another.version,two.of.another.version}'::text[], '{PENDING,PARKED}'::text[])
        AS job (topic, state)
    WHERE stored.state = 'PENDING'
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
        return await repository.read_stats(connection, with_details=True, bounds=BOUNDS)

    await store(database, 1, 100)
    before = await rows_read(engine, read)
    await store(database, 101, 1000)
    after = await rows_read(engine, read)
    assert after == before
    assert sum(after.values()) < 1000


async def test_beyond_the_bounds_there_are_at_least_so_many(database: str, engine: AsyncEngine) -> None:
    await store(database, 1, 100)
    async with engine.connect() as connection:
        stats = await repository.read_stats(connection, with_details=True, bounds=BOUNDS)
    assert (stats.samples, stats.successes, stats.approvals_incident_unknown) == (40, 40, 40)
    assert sum(sum(topic.open.values()) for topic in stats.deliveries.values()) == 40
    assert stats.details is not None
    assert len(stats.details.waiting) == 20
    assert max(sum(hour.values()) for hour in stats.details.hours.values()) == 15
