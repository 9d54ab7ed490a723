"""An incident service for each file of tests, and an own database for each test that requests one."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest_asyncio

from tests.callers import Incidents, incidents_at
from tests.databases import cloned_database, database_fixture
from tests.incident.wire import incident_stub
from tests.migrated import migrate_incident
from tests.services import RunningService, healthy_service

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

database = database_fixture("incident", migrate_incident)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service() -> AsyncIterator[RunningService]:
    """A healthy incident service that the tests of a file share; each keeps to its own ids."""
    async with (
        cloned_database("incident", migrate_incident) as url,
        healthy_service("incident", url) as running,
    ):
        yield running


@pytest_asyncio.fixture
async def incidents(service: RunningService) -> AsyncIterator[Incidents]:
    """Calls of the file's service, by an operator."""
    async with incidents_at(service.address) as found:
        yield found


@pytest_asyncio.fixture
async def stub(service: RunningService) -> "AsyncIterator[IncidentServiceAsyncStub]":
    """Calls of the file's service with messages that no client sends."""
    async with incident_stub(service.address) as found:
        yield found


@pytest_asyncio.fixture
async def rows(service: RunningService) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection to the database of the file's service."""
    connection = await asyncpg.connect(service.database_url)
    try:
        yield connection
    finally:
        await connection.close()
