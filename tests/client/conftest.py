"""A scripted server for each test, and the real services for all of them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.approval.schemas import approval_database, incident_database
from tests.client.either_kind import KINDS, Kind
from tests.client.scripted_server import ScriptedServer, scripted_server
from tests.services import RunningService, healthy_service


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Both kinds of clients."""
    found: Kind = request.param
    return found


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """A server with scripted responses."""
    async with scripted_server() as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def incident_service() -> AsyncIterator[RunningService]:
    """A real incident service."""
    async with incident_database() as url, healthy_service("incident", url) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def approval_service(incident_service: RunningService) -> AsyncIterator[RunningService]:
    """A real approval service in front of it."""
    variables = {"APPROVAL_INCIDENT_TARGET": incident_service.address}
    async with (
        approval_database() as url,
        healthy_service("approval", url, variables=variables) as running,
    ):
        yield running
