"""An operation is announced to its incident before it runs: what is not, or is no longer needed, is not run."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import repeat

import grpc
import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.approval.hooks import Hooked, hook_variables, hooked_service
from tests.approval.repairs import EventType, timeline_events
from tests.approval.schemas import approval_database
from tests.callers import Incidents, State
from tests.eventually import eventually
from tests.held_calls import Front, Held, Rule, front_of, lose_the_reply, refuse
from tests.receiver import receiver
from tests.rpc_errors import refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

STARTED = incident_pb2.IncidentEvent.TYPE_EXECUTION_STARTED
AWAY = refuse(grpc.StatusCode.UNAVAILABLE)


@dataclass(frozen=True)
class World:
    """An approval service that may call hooks, each once an hour, and a front of the incident service."""

    front: Front
    hooked: Hooked

    def at_announcements(self, *rules: Rule) -> None:
        """Have the next announcements treated so."""
        self.front.rules["AddEvent"] = deque(rules)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fronted_hooks(
    incident_service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with front_of(incident_service.address) as front, approval_database() as url, receiver() as hooks:
        front.of["AddEvent"] = lambda request: pb.AddEventRequest.FromString(request).type == STARTED
        variables = {
            "APPROVAL_INCIDENT_TARGET": front.address,
            "APPROVAL_COOLDOWN": "1h",
            **hook_variables(tmp_path_factory.mktemp("hooks"), hooks),
        }
        async with hooked_service(url, hooks, variables) as hooked:
            yield World(front, hooked)


@pytest_asyncio.fixture(loop_scope="session")
async def world(fronted_hooks: World) -> AsyncIterator[World]:
    yield fronted_hooks
    fronted_hooks.at_announcements()


async def test_the_start_of_an_operation_is_on_the_timeline_before_it_runs(
    world: World, incidents: Incidents
) -> None:
    approvals = world.hooked.approvals
    action = world.hooked.new_action()
    done = await approvals.executed(await incidents.opened_id(), action)
    assert done.state == State.STATE_SUCCEEDED
    await approvals.until_delivered(done.approval_id)
    started, ended = await timeline_events(
        incidents, done.incident_id, EventType.TYPE_EXECUTION_STARTED, EventType.TYPE_EXECUTED
    )
    assert started.sequence < ended.sequence
    assert (started.event_time, started.summary) == (done.execute_time, action)
    assert dict(started.attributes) == {"approval_id": done.approval_id, "executor": "http"}


async def test_an_incident_that_is_resolved_before_the_announcement_needs_no_operation(
    world: World, incidents: Incidents
) -> None:
    approvals, action = world.hooked.approvals, world.hooked.new_action()
    incident_id = await incidents.opened_id()
    approval = await approvals.approved(incident_id, action)
    held = Held()
    world.at_announcements(held)
    calling = asyncio.create_task(approvals.execute(approval.approval_id))
    await held.received()
    assert (await approvals.get(approval.approval_id)).state == State.STATE_EXECUTING
    await incidents.resolve(incident_id, resolution_type="EXPIRED_ALERT")
    held.release.set()
    ended = (await calling).approval
    assert ended.state == State.STATE_CANCELLED
    assert ended.outcome_message == "not run: the incident was resolved already"
    assert not ended.HasField("execute_time")
    assert not world.hooked.requests_for(approval.approval_id)
    started, cancelled = await timeline_events(
        incidents, incident_id, EventType.TYPE_EXECUTION_STARTED, EventType.TYPE_CANCELLED
    )
    assert started.sequence < cancelled.sequence
    # Nothing has happened to its target: there is no cool-down.
    other = await approvals.executed(await incidents.opened_id(), action)
    assert other.state == State.STATE_SUCCEEDED


async def test_an_operation_that_cannot_be_announced_is_not_run_and_may_be_executed_later(
    world: World, incidents: Incidents
) -> None:
    approvals = world.hooked.approvals
    approval = await approvals.approved(await incidents.opened_id(), world.hooked.new_action())
    world.at_announcements(*repeat(AWAY, 100))
    refusal = await refused(approvals.execute(approval.approval_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "INCIDENT_SERVICE_UNREACHABLE")
    given_back = await approvals.get(approval.approval_id)
    assert _as_it_was(given_back) == _as_it_was(approval)
    assert given_back.etag != approval.etag
    assert not world.hooked.requests_for(approval.approval_id)
    world.at_announcements()
    assert (await approvals.execute(approval.approval_id)).approval.state == State.STATE_SUCCEEDED
    assert len(world.hooked.requests_for(approval.approval_id)) == 1


async def test_an_approved_operation_runs_by_itself_once_it_can_be_announced(
    world: World, incidents: Incidents
) -> None:
    approvals = world.hooked.approvals
    world.at_announcements(*repeat(AWAY, 1_000))
    before = world.front.ruled["AddEvent"]
    approval = await approvals.approved(
        await incidents.opened_id(), world.hooked.new_action(), auto_execute=True
    )

    async def announced() -> int:
        return world.front.ruled["AddEvent"] - before

    await eventually(announced)

    async def current() -> approval_pb2.Approval:
        return await approvals.get(approval.approval_id)

    await eventually(current, lambda found: found.state == State.STATE_APPROVED)
    world.at_announcements()
    await eventually(current, lambda found: found.state == State.STATE_SUCCEEDED)
    assert len(world.hooked.requests_for(approval.approval_id)) == 1


async def test_an_announcement_whose_reply_is_lost_is_on_the_timeline_once(
    world: World, incidents: Incidents
) -> None:
    approvals = world.hooked.approvals
    approval = await approvals.approved(await incidents.opened_id(), world.hooked.new_action())
    world.at_announcements(*repeat(lose_the_reply(grpc.StatusCode.INTERNAL), 2))
    assert (await approvals.execute(approval.approval_id)).approval.state == State.STATE_SUCCEEDED
    await timeline_events(incidents, approval.incident_id, EventType.TYPE_EXECUTION_STARTED)
    assert len(world.hooked.requests_for(approval.approval_id)) == 1


def _as_it_was(approval: approval_pb2.Approval) -> approval_pb2.Approval:
    kept = approval_pb2.Approval()
    kept.CopyFrom(approval)
    for changed in ("update_time", "etag"):
        kept.ClearField(changed)
    return kept
