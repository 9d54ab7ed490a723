"""One incident service, one approval service and one intake for all tests here that one worker runs.

Tests that share them look at nothing but the alerts that they made themselves.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.alert_intake.running_intake import Intake, running_intake
from tests.approval.hooks import WITHOUT_LIMITS, Hooked, hook_variables, hooked_service
from tests.approval.schemas import approval_database, incident_database
from tests.callers import Incidents, incidents_at
from tests.receiver import receiver
from tests.services import RunningService, healthy_service


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def incident_service() -> AsyncIterator[RunningService]:
    """The incident service."""
    async with incident_database() as url, healthy_service("incident", url) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def hooked(
    incident_service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hooked]:
    """The approval service, which may call hooks."""
    async with approval_database() as url, receiver() as hooks:
        variables = {
            "APPROVAL_INCIDENT_TARGET": incident_service.address,
            **hook_variables(tmp_path_factory.mktemp("hooks"), hooks),
            **WITHOUT_LIMITS,
        }
        async with hooked_service(url, hooks, variables) as found:
            yield found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def approval_service(hooked: Hooked) -> RunningService:
    """The same."""
    return hooked.service


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def incidents(incident_service: RunningService) -> AsyncIterator[Incidents]:
    """Calls of the incident service."""
    async with incidents_at(incident_service.address) as found:
        yield found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def intake(incident_service: RunningService, approval_service: RunningService) -> AsyncIterator[Intake]:
    """The intake."""
    async with running_intake(incident_service.address, approval_service.address) as found:
        yield found
