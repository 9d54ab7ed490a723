"""An approval service whose repairs are verified by the Alertmanager of a simulated target."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from tests.approval.conftest import AT_REST
from tests.approval.schemas import approval_database, rows
from tests.approval.simulated_target import SimulatedTarget, simulated_target, verified_by
from tests.callers import Approvals, Incidents, approvals_at
from tests.eventually import eventually
from tests.services import RunningService, healthy_service

Recovery = approval_pb2.Recovery


@dataclass
class Verified:
    """The service, its target, and the incident service."""

    approvals: Approvals
    incidents: Incidents
    target: SimulatedTarget
    database_url: str
    variables: Mapping[str, str]
    hooks: int = 0

    async def repaired(self, *, helps: bool, incident_id: str = "", **fields: str) -> approval_pb2.Approval:
        """An operation that worked for an incident, a new one unless it is given; `helps`: its alert ends by it."""
        if not incident_id:
            incident_id = await self.opened(**fields)
        found = await self.incidents.get(incident_id)
        action = self.target.hook(self.hooks, ends=found.fingerprint if helps else "")
        self.hooks += 1
        return await self.approvals.executed(incident_id, action)

    async def opened(self, **labels: str) -> str:
        """The id of a new incident, whose alert is active."""
        return await self.incidents.opened_id(**self.target.fire(**labels))

    async def until(self, approval_id: str, recovery: Recovery.ValueType) -> approval_pb2.Approval:
        """The approval, once its recovery has ended so."""
        found = await eventually(
            lambda: self.approvals.get(approval_id), lambda each: each.recovery != Recovery.RECOVERY_PENDING
        )
        assert found.recovery == recovery, found.recovery_message
        return found

    async def end_window(self, approval_id: str) -> None:
        """Let the window of a recovery be over."""
        await rows(
            self.database_url,
            "UPDATE recoveries SET deadline = now() - interval '1 hour' WHERE approval_id = $1",
            approval_id,
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def verified_service(
    incident_service: RunningService, incidents: Incidents, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Verified]:
    async with simulated_target() as target, approval_database() as url:
        variables = {
            **AT_REST,
            "APPROVAL_INCIDENT_TARGET": incident_service.address,
            **verified_by(target, tmp_path_factory.mktemp("hooks")),
        }
        async with (
            healthy_service("approval", url, variables=variables) as running,
            approvals_at(running.address) as approvals,
        ):
            yield Verified(approvals, incidents, target, url, variables)


@pytest_asyncio.fixture(loop_scope="session")
async def verified(verified_service: Verified) -> AsyncIterator[Verified]:
    """The service, with a target that answers."""
    try:
        yield verified_service
    finally:
        target = verified_service.target
        # What is still looked at would slow down the next test.
        await rows(verified_service.database_url, "DELETE FROM recoveries")
        target.failure = None
        target.up_for = type(target.up_for)(days=1)
        target.clock_ahead = type(target.up_for)(0)
