"""An approval service whose dead letters are those of one file of tests."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.approval.conftest import AT_REST
from tests.approval.fronted import Fronted
from tests.approval.schemas import approval_database, rows
from tests.approval.scripted_incidents import pass_on, scripted_incidents
from tests.callers import approvals_at
from tests.services import RunningService, healthy_service


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own(incident_service: RunningService) -> AsyncIterator[Fronted]:
    """An approval service with a database of its own: what is parked there, this module has parked."""
    async with scripted_incidents(incident_service.address) as front, approval_database() as url:
        variables = {"APPROVAL_INCIDENT_TARGET": front.address, **AT_REST}
        async with (
            healthy_service("approval", url, variables=variables) as running,
            approvals_at(running.address) as found,
        ):
            yield Fronted(front, found, running)


@pytest_asyncio.fixture(loop_scope="session")
async def refusing(own: Fronted) -> AsyncIterator[Fronted]:
    """The same without a dead letter, and with an incident service that refuses resolves and timeline entries."""
    await rows(own.service.database_url, "DELETE FROM outbox")
    own.front.behaviour = own.front.timeline_behaviour = pass_on
    yield own
    own.front.behaviour = own.front.timeline_behaviour = pass_on
