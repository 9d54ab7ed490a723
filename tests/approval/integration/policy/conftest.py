"""An approval service with rules for the tests of auto-approval."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.approval.conftest import AT_REST
from tests.approval.fronted import CHECK_TIMEOUT
from tests.approval.integration.policy.ruled import POLICY, Ruled
from tests.approval.schemas import approval_database
from tests.approval.scripted_incidents import pass_on, scripted_incidents
from tests.callers import approvals_at
from tests.services import RunningService, healthy_service


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ruled_service(
    incident_service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ruled]:
    folder = tmp_path_factory.mktemp("policy")
    policy_file, switch_file = folder / "policy.toml", folder / "auto-approve"
    policy_file.write_text(POLICY)
    switch_file.write_text("on\n")
    async with scripted_incidents(incident_service.address) as front, approval_database() as url:
        variables = {
            "APPROVAL_INCIDENT_TARGET": front.address,
            "APPROVAL_INCIDENT_CHECK_TIMEOUT": f"{CHECK_TIMEOUT.total_seconds()}s",
            "APPROVAL_POLICY_FILE": str(policy_file),
            "APPROVAL_AUTO_APPROVE_FILE": str(switch_file),
            "APPROVAL_EXECUTORS": "dry-run",
            "APPROVAL_COOLDOWN": "0s",
            "APPROVAL_OPERATIONS_PER_HOUR": "1000",
            **AT_REST,
        }
        async with (
            healthy_service("approval", url, variables=variables) as running,
            approvals_at(running.address) as found,
        ):
            yield Ruled(found, running, policy_file, switch_file, front)


@pytest_asyncio.fixture(loop_scope="session")
async def ruled(ruled_service: Ruled) -> AsyncIterator[Ruled]:
    """The same with its rules on and its files as at the start."""
    try:
        yield ruled_service
    finally:
        if ruled_service.switch_file.is_dir():
            ruled_service.switch_file.rmdir()
        ruled_service.switch_file.write_text("on\n")
        ruled_service.policy_file.write_text(POLICY)
        ruled_service.front.behaviour = pass_on
        await ruled_service.front.start()
