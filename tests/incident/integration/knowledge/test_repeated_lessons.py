"""A lesson that repeats costs no more than its row: the entry stays on its page, its indexes are not touched."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from flywheel.postgres.embedded import EmbeddedPostgres
from incident.knowledge import repository
from incident.knowledge.model import Lesson
from incident.model import ResolutionType
from servicekit.database.engine import create_engine
from tests.clusters import copy_cluster
from tests.migrated import migrate_incident

_INCIDENTS = 12
_KINDS = 40


# While autovacuum analyzes a table of the database, no version of a row is old enough to be removed.
_QUIET = {"autovacuum": "off"}


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[str]:
    """A database on a server of its own."""
    server = EmbeddedPostgres(copy_cluster(tmp_path / "postgres"), durable=False, settings=_QUIET)
    await asyncio.to_thread(server.start)
    try:
        server.create_database("incident")
        await migrate_incident(server.url("incident"))
        yield server.url("incident")
    finally:
        await asyncio.to_thread(server.stop)


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database, application_name="tests", pool_size=1)
    yield engine
    await engine.dispose()


def lesson(number: int, kind: int) -> Lesson:
    """One of as many kinds, with a text of the usual length."""
    words = " ".join(f"word{kind}x{each}" for each in range(40))
    return Lesson(
        incident_id=f"INC-{number}",
        resolution_number=kind + 1,
        symptom_key=str(kind),
        symptoms=words,
        resolution="restarted it",
        resolution_type=ResolutionType.HUMAN,
        action="",
        held=True,
        seconds=1.0,
    )


async def test_a_repeated_lesson_leaves_its_entry_on_its_page(database: str, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text("""
                INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source,
                    opened_by, content_hash)
                SELECT 'INC-' || n, '', '', 'HIGH', 'OPEN', '', '{}', '', '', '' FROM generate_series(1, :incidents) AS n
            """),
            {"incidents": _INCIDENTS},
        )
    for number in range(1, _INCIDENTS + 1):
        async with engine.begin() as connection:
            await repository.learn(connection, [lesson(number, kind) for kind in range(_KINDS)])
    await engine.dispose()
    rows = await asyncpg.connect(database)
    try:
        found = await rows.fetchrow("""
            SELECT n_tup_upd, n_tup_hot_upd, (SELECT array_agg(use_count) FROM knowledge)
            FROM pg_stat_user_tables WHERE relname = 'knowledge'
        """)
    finally:
        await rows.close()
    assert found is not None
    updates, on_their_page, counts = found
    assert counts == [_INCIDENTS] * _KINDS
    assert updates == _INCIDENTS * _KINDS
    # A new entry is indexed, which moves it; once more it may have to find a page with room.
    assert updates - on_their_page <= 2 * _KINDS
