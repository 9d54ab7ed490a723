"""A service of its own for the stats: only one test at a time changes them."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest_asyncio

from tests.callers import Incidents, incidents_at
from tests.databases import cloned_database
from tests.eventually import eventually
from tests.migrated import migrate_incident
from tests.services import RunningService, healthy_service

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[RunningService]:
    variables: dict[str, Any] = {"INCIDENT_STUCK_AFTER": "45m"}
    async with (
        cloned_database("incident", migrate_incident) as database,
        healthy_service("incident", database, variables=variables) as service,
    ):
        yield service


@pytest_asyncio.fixture
async def alone_rows(running: RunningService) -> "AsyncIterator[Rows]":
    connection = await asyncpg.connect(running.database_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def alone(running: RunningService, alone_rows: "Rows") -> RunningService:
    """A service with an empty database, for one test at a time."""
    # Jobs that wait until tomorrow are of an earlier test.
    due = "SELECT count(*) FROM outbox WHERE state = 'PENDING' AND next_attempt_time < now() + interval '1 hour'"
    await eventually(lambda: alone_rows.fetchval(due), lambda count: count == 0)
    await alone_rows.execute("TRUNCATE incidents, outbox, counters CASCADE")
    return running


@pytest_asyncio.fixture
async def alone_incidents(alone: RunningService) -> AsyncIterator[Incidents]:
    async with incidents_at(alone.address) as incidents:
        yield incidents
