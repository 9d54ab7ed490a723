"""Approval services for tests of several folders: with frequent background work, and with hooks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.approval.hooks import WITHOUT_LIMITS, Hooked, hook_variables, hooked_service
from tests.approval.integration.racing import ROUNDS, Racers
from tests.approval.schemas import approval_database
from tests.callers import Approvals, approvals_at
from tests.receiver import receiver
from tests.services import RunningService, healthy_service


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def restless_service(incident_service: RunningService) -> AsyncIterator[RunningService]:
    """An approval service that expires and reconciles 20 times a second."""
    variables = {
        "APPROVAL_INCIDENT_TARGET": incident_service.address,
        "APPROVAL_EXPIRE_EVERY": "50ms",
        "APPROVAL_RECONCILE_EVERY": "50ms",
    }
    async with approval_database() as url, healthy_service("approval", url, variables=variables) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def restless(restless_service: RunningService) -> AsyncIterator[Approvals]:
    """Calls of the same service."""
    async with approvals_at(restless_service.address) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hooked(
    incident_service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hooked]:
    """An approval service that may call hooks."""
    async with approval_database() as url, receiver() as hooks:
        variables = {
            "APPROVAL_INCIDENT_TARGET": incident_service.address,
            **hook_variables(tmp_path_factory.mktemp("hooks"), hooks),
            **WITHOUT_LIMITS,
        }
        async with hooked_service(url, hooks, variables) as found:
            yield found


@pytest_asyncio.fixture(loop_scope="session")
async def racers(incident_service: RunningService, tmp_path: Path) -> AsyncIterator[Racers]:
    """Two approval services over one database that may call hooks."""
    async with approval_database() as url, receiver() as hooks:
        variables = {
            "APPROVAL_INCIDENT_TARGET": incident_service.address,
            "APPROVAL_DATABASE_POOL_SIZE": "20",
            "APPROVAL_INCIDENT_CHECK_TIMEOUT": "30s",
            # A hook for each round: one target is operated on once at a time.
            **hook_variables(tmp_path, hooks, hooks=ROUNDS + 1),
            **WITHOUT_LIMITS,
        }
        async with (
            hooked_service(url, hooks, variables) as one,
            # One of the two expires approvals as often as it can.
            healthy_service("approval", url, variables=variables | {"APPROVAL_EXPIRE_EVERY": "5ms"}) as other,
            approvals_at(other.address) as at_other,
        ):
            yield Racers(url, [one.approvals, at_other], hooks)
