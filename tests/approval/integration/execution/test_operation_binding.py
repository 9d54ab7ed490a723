"""Only the approved operation is run, and only for an unresolved incident: otherwise no hook is called."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from awoooi.incident.v1 import incident_pb2
from tests.approval.fronted import CHECK_TIMEOUT
from tests.approval.hooks import WITHOUT_LIMITS, Hooked, hook_variables, hooked_service
from tests.approval.repairs import EventType, Repairs, logged, repairs, timeline_events
from tests.approval.schemas import approval_database, rows
from tests.approval.scripted_incidents import (
    Behaviour,
    ScriptedIncidents,
    answer,
    hang,
    pass_on,
    scripted_incidents,
)
from tests.callers import Incidents, State
from tests.eventually import eventually
from tests.receiver import receiver
from tests.rpc_errors import refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOTHING = Repairs(samples=0, successes=0, succeeded=0, failed=0, indeterminate=0)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def front_of_all(incident_service: RunningService) -> AsyncIterator[ScriptedIncidents]:
    async with scripted_incidents(incident_service.address) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="session")
async def front(front_of_all: ScriptedIncidents) -> AsyncIterator[ScriptedIncidents]:
    """What the service reaches in place of the incident service; honest again after each test."""
    try:
        yield front_of_all
    finally:
        front_of_all.behaviour = pass_on
        await front_of_all.start()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hooked(
    front_of_all: ScriptedIncidents, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hooked]:
    async with approval_database() as url, receiver() as hooks:
        variables = {
            "APPROVAL_INCIDENT_TARGET": front_of_all.address,
            "APPROVAL_INCIDENT_CHECK_TIMEOUT": f"{CHECK_TIMEOUT.total_seconds()}s",
            **hook_variables(tmp_path_factory.mktemp("bound"), hooks),
            **WITHOUT_LIMITS,
        }
        async with hooked_service(url, hooks, variables) as found:
            yield found


# How a row may differ from what was approved.
CHANGES = {
    "the text": "action = 'HTTP POST hook-99'",
    "the text so that it cannot be parsed": "action = 'call hook-99'",
    "the text so that nothing would be done": "action = 'NO_ACTION'",
    "the hook": "hook = 'hook-99'",
    "the hook and the text": "hook = 'hook-99', action = 'HTTP POST hook-99'",
    "the hash": "action_hash = repeat('0', 64)",
    "the kind": "operation_kind = 'RESTART'",
    "what makes it a repair": "operation_kind = 'NO_ACTION', hook = '', action = 'NO_ACTION'",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("auto_execute", [False, True], ids=["by_execute", "by_the_worker"])
async def test_an_action_that_is_parsed_differently_now_is_not_run(
    hooked: Hooked, front: ScriptedIncidents, incidents: Incidents, change: str, auto_execute: bool
) -> None:
    approvals = hooked.approvals
    before = await repairs(approvals)
    incident_id = await incidents.opened_id()
    proposed = await approvals.proposed(incident_id, hooked.new_action(), auto_execute=auto_execute)
    approval_id = proposed.approval_id
    # While the incident service is unreachable the worker retries, so the row can be changed before the execution.
    await front.stop()
    await approvals.approve(approval_id)
    statement = f"UPDATE approvals SET {change} WHERE approval_id = $1"  # noqa: S608 - of the table above
    await rows(hooked.service.database_url, statement, approval_id)
    await front.start()
    if auto_execute:
        await hooked.service.logged(
            "background_execution_dropped",
            approval_id=approval_id,
            reason="The action would be read differently now than when it was approved.",
        )
    refusal = await refused(approvals.execute(approval_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ACTION_CHANGED")
    plan = (await approvals.execute(approval_id, validate_only=True)).plan
    assert "action_unchanged" in [check.name for check in plan.checks if not check.passed]
    assert (await approvals.get(approval_id)).state == State.STATE_APPROVED
    assert not hooked.requests_for(approval_id)
    assert await repairs(approvals) - before == NOTHING
    assert (await incidents.get(incident_id)).state == incident_pb2.Incident.STATE_OPEN


async def test_an_operation_approved_for_an_opening_that_is_over_is_cancelled_and_not_run(
    hooked: Hooked, incidents: Incidents
) -> None:
    approvals = hooked.approvals
    incident_id = await incidents.opened_id()
    # On a loaded machine the look-up of the incident may take too long; then the opening is not known.
    approved = await eventually(
        lambda: approvals.approved(incident_id, hooked.new_action()), lambda found: found.incident_verified
    )
    await incidents.resolve(incident_id, resolution_type="HUMAN")
    await incidents.reopen(incident_id, reason="it is back")
    executed = (await approvals.execute(approved.approval_id)).approval
    assert executed.state == State.STATE_CANCELLED
    assert executed.outcome_message == "not run: the incident was resolved and reopened since it was proposed"
    assert not hooked.requests_for(approved.approval_id)
    assert not await logged(approvals, approved.approval_id)
    assert (await incidents.get(incident_id)).state == incident_pb2.Incident.STATE_OPEN
    # One that was proposed for the current opening is run.
    again = await approvals.executed(incident_id, hooked.new_action())
    assert again.state == State.STATE_SUCCEEDED


@pytest.mark.parametrize("auto_execute", [False, True], ids=["by_execute", "by_the_worker"])
async def test_an_incident_that_was_resolved_meanwhile_needs_no_operation(
    hooked: Hooked, incidents: Incidents, auto_execute: bool
) -> None:
    approvals = hooked.approvals
    before = await repairs(approvals)
    incident_id = await incidents.opened_id()
    proposed = await approvals.proposed(incident_id, hooked.new_action(), auto_execute=auto_execute)
    by_hand = (await incidents.resolve(incident_id, resolution_type="HUMAN")).incident
    approval_id = (await approvals.approve(proposed.approval_id)).approval_id
    if not auto_execute:
        await approvals.execute(approval_id)
    skipped = await eventually(
        lambda: approvals.get(approval_id), lambda found: found.state == State.STATE_CANCELLED
    )
    assert skipped.outcome_message == "not run: the incident was resolved already"
    assert not skipped.HasField("execute_time")
    assert not hooked.requests_for(approval_id)
    assert not await logged(approvals, approval_id)
    assert not (await approvals.list_deliveries(approval_id=approval_id).page()).deliveries
    assert await repairs(approvals) - before == NOTHING
    [event] = await timeline_events(incidents, incident_id, EventType.TYPE_CANCELLED)
    assert event.summary == skipped.outcome_message
    assert await incidents.get(incident_id) == by_hand
    # And it stays so.
    refusal = await refused(approvals.execute(approval_id))
    assert refusal.metadata == {"current_state": "CANCELLED", "allowed_states": "APPROVED"}


# How the look-up of the incident fails.
UNREACHABLE: dict[str, Behaviour | None] = {
    "down": None,
    "unavailable": answer(grpc.StatusCode.UNAVAILABLE),
    "hanging": hang,
    "failing": answer(grpc.StatusCode.INTERNAL),
    "refusing": answer(grpc.StatusCode.PERMISSION_DENIED),
}


async def _break(front: ScriptedIncidents, behaviour: Behaviour | None) -> None:
    if behaviour is None:
        await front.stop()
    else:
        front.behaviour = behaviour


@pytest.mark.parametrize("behaviour", UNREACHABLE.values(), ids=UNREACHABLE)
async def test_an_operation_waits_for_an_unreachable_incident_service_and_runs_once(
    hooked: Hooked, front: ScriptedIncidents, incidents: Incidents, behaviour: Behaviour | None
) -> None:
    approvals = hooked.approvals
    incident_id = await incidents.opened_id()
    proposed = await approvals.proposed(incident_id, hooked.new_action(), auto_execute=True)
    await _break(front, behaviour)
    approval_id = (await approvals.approve(proposed.approval_id)).approval_id

    attempts = "SELECT attempts FROM outbox WHERE topic = 'approval.execute' AND dedup_key = $1"
    await eventually(
        lambda: rows(hooked.service.database_url, attempts, approval_id), lambda found: found[0][0] >= 3
    )
    refusal = await refused(approvals.execute(approval_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "INCIDENT_SERVICE_UNREACHABLE")
    assert refusal.retry_after_seconds == 1
    assert refusal.resource == ("awoooi.incident.v1.Incident", incident_id)
    assert (await approvals.get(approval_id)).state == State.STATE_APPROVED
    assert not hooked.requests_for(approval_id)

    front.behaviour = pass_on
    await front.start()
    done = await approvals.until_delivered(approval_id)
    assert done.state == State.STATE_SUCCEEDED
    assert len(hooked.requests_for(approval_id)) == 1
    assert len(await logged(approvals, approval_id)) == 1
    assert (await incidents.get(incident_id)).resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED


async def test_an_operation_whose_incident_was_resolved_during_an_outage_is_not_run_after_it(
    hooked: Hooked, front: ScriptedIncidents, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    proposed = await hooked.approvals.proposed(incident_id, hooked.new_action(), auto_execute=True)
    await front.stop()
    approval_id = (await hooked.approvals.approve(proposed.approval_id)).approval_id
    await incidents.resolve(incident_id, resolution_type="HUMAN")
    await front.start()
    await eventually(
        lambda: hooked.approvals.get(approval_id), lambda found: found.state == State.STATE_CANCELLED
    )
    assert not hooked.requests_for(approval_id)


async def test_an_operation_that_was_cancelled_during_an_outage_is_not_run_after_it(
    hooked: Hooked, front: ScriptedIncidents, incidents: Incidents
) -> None:
    approvals = hooked.approvals
    proposed = await approvals.proposed(await incidents.opened_id(), hooked.new_action(), auto_execute=True)
    await front.stop()
    approval_id = (await approvals.approve(proposed.approval_id)).approval_id
    await approvals.cancel(approval_id)
    await front.start()
    await hooked.service.logged("background_execution_dropped", approval_id=approval_id)
    assert not hooked.requests_for(approval_id)
    assert (await approvals.get(approval_id)).state == State.STATE_CANCELLED


async def test_an_operation_for_an_incident_that_does_not_exist_is_not_run(
    hooked: Hooked, front: ScriptedIncidents
) -> None:
    await front.stop()
    unknown = "INC-20200101-00000000DEAD"
    approval = await hooked.approvals.approved(unknown, hooked.new_action())
    assert not approval.incident_verified
    await front.start()
    refusal = await eventually(
        lambda: refused(hooked.approvals.execute(approval.approval_id)),
        # The channel may be at rest after the outage.
        lambda found: found.code is not grpc.StatusCode.UNAVAILABLE,
    )
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
    assert not hooked.requests_for(approval.approval_id)


async def test_a_no_action_does_not_look_up_its_incident(
    hooked: Hooked, front: ScriptedIncidents, incidents: Incidents
) -> None:
    approval = await hooked.approvals.approved(await incidents.opened_id())
    await front.stop()
    async with asyncio.timeout(CHECK_TIMEOUT.total_seconds() * 20):
        executed = (await hooked.approvals.execute(approval.approval_id)).approval
    assert executed.state == State.STATE_SUCCEEDED
    await front.start()
    await hooked.approvals.until_delivered(approval.approval_id)
