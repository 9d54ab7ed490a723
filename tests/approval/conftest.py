"""One incident service and two replicas of the approval service for all tests here that one worker runs.

Tests that share them run in the session's event loop and look at nothing but what they made themselves. A test that
kills, stops or sets a service otherwise starts its own.
"""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.approval.fronted import CHECK_TIMEOUT, RESOLVE_TIMEOUT, Fronted
from tests.approval.schemas import approval_database, incident_database, migrate_approval
from tests.approval.scripted_incidents import pass_on, scripted_incidents
from tests.callers import Approvals, Incidents, approvals_at, incidents_at
from tests.databases import database_fixture
from tests.services import RunningService, healthy_service

# Without periodic work, which would write while a test checks that nothing is written.
AT_REST = {"APPROVAL_EXPIRE_EVERY": "24h", "APPROVAL_RECONCILE_EVERY": "24h"}

database = database_fixture("approval", migrate_approval)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def incident_service() -> AsyncIterator[RunningService]:
    """The incident service."""
    async with incident_database() as url, healthy_service("incident", url) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def approval_service(incident_service: RunningService) -> AsyncIterator[RunningService]:
    """The approval service."""
    variables = {"APPROVAL_INCIDENT_TARGET": incident_service.address, **AT_REST}
    async with (
        approval_database() as url,
        healthy_service("approval", url, variables=variables) as running,
    ):
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def incidents(incident_service: RunningService) -> AsyncIterator[Incidents]:
    """Calls of the incident service."""
    async with incidents_at(incident_service.address) as found:
        yield found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def approvals(approval_service: RunningService) -> AsyncIterator[Approvals]:
    """Calls of the approval service."""
    async with approvals_at(approval_service.address) as found:
        yield found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def replica(
    approval_service: RunningService, incident_service: RunningService
) -> AsyncIterator[Approvals]:
    """Calls of a second process over the same database."""
    variables = {"APPROVAL_INCIDENT_TARGET": incident_service.address, **AT_REST}
    async with (
        healthy_service("approval", approval_service.database_url, variables=variables) as running,
        approvals_at(running.address) as found,
    ):
        yield found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fronted_service(incident_service: RunningService) -> AsyncIterator[Fronted]:
    """An approval service that reaches the incident service through a front."""
    async with scripted_incidents(incident_service.address) as front, approval_database() as url:
        variables = {
            "APPROVAL_INCIDENT_TARGET": front.address,
            "APPROVAL_INCIDENT_RESOLVE_TIMEOUT": f"{RESOLVE_TIMEOUT.total_seconds()}s",
            "APPROVAL_INCIDENT_CHECK_TIMEOUT": f"{CHECK_TIMEOUT.total_seconds()}s",
            **AT_REST,
        }
        async with (
            healthy_service("approval", url, variables=variables) as running,
            approvals_at(running.address) as found,
        ):
            yield Fronted(front, found, running)


@pytest_asyncio.fixture(loop_scope="session")
async def fronted(fronted_service: Fronted) -> AsyncIterator[Fronted]:
    """The same with a front that forwards every call."""
    try:
        yield fronted_service
    finally:
        front = fronted_service.front
        front.behaviour = front.lookup_behaviour = front.timeline_behaviour = pass_on
        await front.start()
