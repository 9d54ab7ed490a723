"""A service that is connected to external systems, for each file of tests."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.databases import cloned_database
from tests.incident.side_effects import (
    ConnectedService,
    connected_service,
)
from tests.migrated import migrate_incident


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connected() -> AsyncIterator[ConnectedService]:
    async with (
        cloned_database("incident", migrate_incident) as database,
        connected_service(database) as running,
    ):
        yield running
