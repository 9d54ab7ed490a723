"""An alert that ends while a repair begins, runs and ends, or because of one whose recovery is verified."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as approval_calls
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as incident_calls
from tests.alert_intake import notifications
from tests.alert_intake.running_intake import Intake, running_intake
from tests.approval.conftest import AT_REST
from tests.approval.schemas import approval_database, rows
from tests.approval.simulated_target import SimulatedTarget, simulated_target, verified_by
from tests.callers import Approvals, Incidents, approvals_at
from tests.eventually import eventually
from tests.held_calls import Front, front_of
from tests.held_calls import Held as HeldCall
from tests.receiver import Held, status
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

Recovery = approval_pb2.Recovery
IncidentEvent = incident_pb2.IncidentEvent


@dataclass(frozen=True)
class World:
    """An intake, an approval service that verifies, its target, and the incident service; fronts before both services."""

    intake: Intake
    approvals: Approvals
    incidents: Incidents
    target: SimulatedTarget
    database_url: str
    # The intake and the approval service call through these.
    to_incidents: Front
    to_approvals: Front


@dataclass(frozen=True)
class Firing:
    """An alert that has opened its incident, and the end of it, as it is posted."""

    fingerprint: str
    incident_id: str
    ends: dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    incident_service: RunningService, incidents: Incidents, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with (
        simulated_target() as target,
        approval_database() as url,
        front_of(incident_service.address) as to_incidents,
    ):
        variables = {
            **AT_REST,
            "APPROVAL_INCIDENT_TARGET": to_incidents.address,
            **verified_by(target, tmp_path_factory.mktemp("hooks")),
        }
        async with (
            healthy_service("approval", url, variables=variables) as running,
            approvals_at(running.address) as approvals,
            front_of(running.address) as to_approvals,
            running_intake(to_incidents.address, to_approvals.address) as intake,
        ):
            yield World(intake, approvals, incidents, target, url, to_incidents, to_approvals)


_HOOKS = count()


async def _fires(world: World) -> Firing:
    fields: Mapping[str, Any] = world.target.fire()
    fingerprint = fields["fingerprint"]
    fires = notifications.alert(fingerprint, labels=fields["labels"])
    assert (await world.intake.post(fires)).status_code == 200
    (incident,) = [each async for each in world.incidents.list(fingerprint=fingerprint)]
    ends = notifications.alert(fingerprint, firing=False, labels=fields["labels"])
    return Firing(fingerprint, incident.incident_id, ends)


@pytest.mark.parametrize("helps", [True, False], ids=["it helps", "it does not help"])
async def test_an_end_is_not_taken_while_a_recovery_is_pending(world: World, helps: bool) -> None:
    firing = await _fires(world)
    approval = await world.approvals.executed(firing.incident_id, world.target.hook(next(_HOOKS)))
    _assert_is_held(await world.intake.post(firing.ends), firing)
    if helps:
        world.target.active.discard(firing.fingerprint)
    else:
        await rows(world.database_url, "UPDATE recoveries SET deadline = now() - interval '1 hour'")
    found = await _posted_until_resolved(world, firing.incident_id, firing.ends)
    recovery = (await world.approvals.get(approval.approval_id)).recovery
    assert (recovery, found.resolution_type, found.resolution_number) == (
        (Recovery.RECOVERY_VERIFIED, incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED, 1)
        if helps
        else (Recovery.RECOVERY_NOT_RECOVERED, incident_pb2.RESOLUTION_TYPE_EXPIRED_ALERT, 1)
    )


async def test_an_operation_that_begins_after_the_intakes_look_keeps_its_incident_unresolved(
    world: World,
) -> None:
    firing = await _fires(world)
    approval = await _approved(world, firing)
    resolve = HeldCall()
    world.to_incidents.rules["Resolve"] = deque([resolve])
    ending = asyncio.create_task(world.intake.post(firing.ends))
    # It has looked: nothing executes.
    await resolve.received()
    works = Held(status(204))
    executing = await _executing(world, approval, works)
    resolve.release.set()
    _assert_is_held(await ending, firing)
    works.release.set()
    await executing
    world.target.active.discard(firing.fingerprint)
    found = await _posted_until_resolved(world, firing.incident_id, firing.ends)
    assert found.resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED


async def test_an_operation_that_ends_during_the_intakes_look_is_seen_by_it(world: World) -> None:
    firing = await _fires(world)
    approval = await _approved(world, firing)
    works = Held(status(204))
    executing = await _executing(world, approval, works)
    # Its end is late on the timeline, so that the incident does not change.
    executed = HeldCall()
    world.to_incidents.of["AddEvent"] = lambda request: (
        incident_calls.AddEventRequest.FromString(request).type == IncidentEvent.TYPE_EXECUTED
    )
    world.to_incidents.rules["AddEvent"] = deque([executed])
    look = HeldCall()
    world.to_approvals.of["List"] = lambda request: bool(
        approval_calls.ListRequest.FromString(request).states
    )
    world.to_approvals.rules["List"] = deque([look])
    ending = asyncio.create_task(world.intake.post(firing.ends))
    await look.received()
    # Every other call of the intake has its response before the operation ends.
    assert [each async for each in world.approvals.list(incident_id=firing.incident_id)] != []
    works.release.set()
    assert (await executing).approval.recovery == Recovery.RECOVERY_PENDING
    look.release.set()
    _assert_is_held(await ending, firing)
    executed.release.set()
    world.target.active.discard(firing.fingerprint)
    found = await _posted_until_resolved(world, firing.incident_id, firing.ends)
    assert found.resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED


async def _approved(world: World, firing: Firing) -> approval_pb2.Approval:
    """An approval that may be executed, and of which nothing more changes the incident."""
    approval = await world.approvals.approved(firing.incident_id, world.target.hook(next(_HOOKS)))
    await eventually(
        lambda: world.incidents.event_types(firing.incident_id),
        lambda types: {"PROPOSED", "APPROVED"} <= set(types),
    )
    return approval


async def _executing(
    world: World, approval: approval_pb2.Approval, works: Held
) -> asyncio.Task[approval_calls.ExecuteResponse]:
    """The execution of an approval, whose hook has been called and does not answer before it may."""
    world.target.repairs.append(works)
    calls = len(world.target.calls)

    async def called() -> bool:
        return len(world.target.calls) > calls

    executing = asyncio.create_task(world.approvals.execute(approval.approval_id))
    await eventually(called)
    return executing


def _assert_is_held(refused: httpx2.Response, firing: Firing) -> None:
    assert refused.status_code == 503
    assert f"{firing.fingerprint}: held" in refused.text


async def _posted_until_resolved(
    world: World, incident_id: str, ends: dict[str, Any]
) -> incident_pb2.Incident:
    """Alertmanager posts an end again until it is taken."""

    async def resolved() -> incident_pb2.Incident:
        await world.intake.post(ends)
        return await world.incidents.get(incident_id)

    return await eventually(resolved, lambda each: each.state == incident_pb2.Incident.STATE_RESOLVED)
