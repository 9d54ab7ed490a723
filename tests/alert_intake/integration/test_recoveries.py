"""An alert that ends because of a repair whose recovery is verified."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.alert_intake import notifications
from tests.alert_intake.running_intake import Intake, running_intake
from tests.approval.conftest import AT_REST
from tests.approval.schemas import approval_database, rows
from tests.approval.simulated_target import SimulatedTarget, simulated_target, verified_by
from tests.callers import Approvals, Incidents, approvals_at
from tests.eventually import eventually
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

Recovery = approval_pb2.Recovery


@dataclass(frozen=True)
class World:
    """An intake, an approval service that verifies, its target, and the incident service."""

    intake: Intake
    approvals: Approvals
    incidents: Incidents
    target: SimulatedTarget
    database_url: str


@pytest_asyncio.fixture(loop_scope="session")
async def world(
    incident_service: RunningService, incidents: Incidents, tmp_path: Path
) -> AsyncIterator[World]:
    async with simulated_target() as target, approval_database() as url:
        variables = {
            **AT_REST,
            "APPROVAL_INCIDENT_TARGET": incident_service.address,
            **verified_by(target, tmp_path),
        }
        async with (
            healthy_service("approval", url, variables=variables) as running,
            approvals_at(running.address) as approvals,
            running_intake(incident_service.address, running.address) as intake,
        ):
            yield World(intake, approvals, incidents, target, url)


async def test_an_end_is_not_taken_while_a_recovery_is_pending(world: World) -> None:
    for number, helps in enumerate((True, False)):
        fields = world.target.fire()
        fingerprint = fields["fingerprint"]
        fires = notifications.alert(fingerprint, labels=fields["labels"])
        ends = notifications.alert(fingerprint, firing=False, labels=fields["labels"])
        assert (await world.intake.post(fires)).status_code == 200
        (incident,) = [each async for each in world.incidents.list(fingerprint=fingerprint)]
        approval = await world.approvals.executed(incident.incident_id, world.target.hook(number))

        refused = await world.intake.post(ends)

        assert refused.status_code == 503
        assert f"{fingerprint}: held" in refused.text
        if helps:
            world.target.active.discard(fingerprint)
        else:
            await rows(world.database_url, "UPDATE recoveries SET deadline = now() - interval '1 hour'")
        found = await _posted_until_resolved(world, incident.incident_id, ends)
        recovery = (await world.approvals.get(approval.approval_id)).recovery
        assert (recovery, found.resolution_type, found.resolution_number) == (
            (Recovery.RECOVERY_VERIFIED, incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED, 1)
            if helps
            else (Recovery.RECOVERY_NOT_RECOVERED, incident_pb2.RESOLUTION_TYPE_EXPIRED_ALERT, 1)
        )


async def _posted_until_resolved(
    world: World, incident_id: str, ends: dict[str, Any]
) -> incident_pb2.Incident:
    """Alertmanager posts an end again until it is taken."""

    async def resolved() -> incident_pb2.Incident:
        await world.intake.post(ends)
        return await world.incidents.get(incident_id)

    return await eventually(resolved, lambda each: each.state == incident_pb2.Incident.STATE_RESOLVED)
