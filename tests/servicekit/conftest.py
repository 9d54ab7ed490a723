"""A database with an outbox and counters for each test: the incident service's, for a real migration made it."""

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.engine import create_engine
from tests.databases import database_fixture
from tests.migrated import migrate_incident

database = database_fixture("incident", migrate_incident)


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the test's database."""
    engine = create_engine(database, application_name="tests")
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest_asyncio.fixture
async def rows(database: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection of the test's own to its database."""
    connection = await asyncpg.connect(database)
    try:
        yield connection
    finally:
        await connection.close()
