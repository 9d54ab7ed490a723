"""An approval is for the opening of its incident that it was proposed for: what comes late leaves a reopened incident open."""

import grpc
import pytest

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.approval.fronted import Fronted
from tests.approval.schemas import rows
from tests.approval.scripted_incidents import answer, hang, lose_the_reply, pass_on
from tests.callers import Approvals, Incidents, State
from tests.eventually import eventually
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPEN = incident_pb2.Incident.STATE_OPEN


async def reopen(incidents: Incidents, incident_id: str) -> incident_pb2.Incident:
    return await incidents.reopen(incident_id, reason="it is back")


async def until_acknowledged_and_still_open(
    approvals: Approvals, incidents: Incidents, approval: approval_pb2.Approval
) -> None:
    await approvals.until_delivered(approval.approval_id)
    found = await incidents.get(approval.incident_id)
    assert (found.state, found.opening) == (OPEN, 2)


async def test_an_approval_keeps_the_opening_that_it_was_proposed_for(
    approvals: Approvals, incidents: Incidents
) -> None:
    incident_id = (await incidents.resolved()).incident_id
    await reopen(incidents, incident_id)
    approval = await approvals.proposed(incident_id)
    assert approval.incident_opening == 2
    assert (await approvals.get(approval.approval_id)).incident_opening == 2


async def test_the_opening_of_an_unverified_proposal_is_not_known(
    fronted: Fronted, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    await fronted.front.stop()
    try:
        approval = await fronted.approvals.proposed(incident_id)
    finally:
        await fronted.front.start()
    assert (approval.incident_verified, approval.incident_opening) == (False, 0)


async def test_a_delivery_whose_reply_was_lost_leaves_an_incident_that_was_reopened_since(
    fronted: Fronted, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    fronted.front.behaviour = lose_the_reply
    approval = await fronted.approvals.executed(incident_id)
    await eventually(lambda: incidents.get(incident_id), lambda found: found.state != OPEN)
    await reopen(incidents, incident_id)
    fronted.front.behaviour = pass_on
    await until_acknowledged_and_still_open(fronted.approvals, incidents, approval)


async def test_a_late_delivery_leaves_an_incident_that_was_resolved_by_hand_and_reopened(
    fronted: Fronted, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    fronted.front.behaviour = hang
    approval = await fronted.approvals.executed(incident_id)
    await incidents.resolve(incident_id, resolution_type="HUMAN")
    await reopen(incidents, incident_id)
    fronted.front.behaviour = pass_on
    await until_acknowledged_and_still_open(fronted.approvals, incidents, approval)


async def test_a_no_action_executed_after_the_reopen_succeeds_and_changes_nothing(
    approvals: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    approval = await approvals.approved(incident_id)
    await incidents.resolve(incident_id, resolution_type="HUMAN")
    await reopen(incidents, incident_id)
    executed = (await approvals.execute(approval.approval_id)).approval
    assert executed.state == State.STATE_SUCCEEDED
    await until_acknowledged_and_still_open(approvals, incidents, approval)


async def test_an_unverified_approval_leaves_an_incident_that_was_reopened_after_its_execution(
    fronted: Fronted, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    await fronted.front.stop()
    approval = await fronted.approvals.executed(incident_id)
    await incidents.resolve(incident_id, resolution_type="HUMAN")
    await reopen(incidents, incident_id)
    await fronted.front.start()
    await until_acknowledged_and_still_open(fronted.approvals, incidents, approval)


async def test_a_reconciled_delivery_leaves_an_incident_that_was_reopened_since(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    incident_id = await incidents.opened_id()
    approval = await approvals.executed(incident_id)
    await approvals.until_delivered(approval.approval_id)
    await reopen(incidents, incident_id)
    await rows(approval_service.database_url, "DELETE FROM outbox WHERE dedup_key = $1", approval.approval_id)
    await rows(
        approval_service.database_url,
        "UPDATE approvals SET incident_resolve_time = NULL WHERE approval_id = $1",
        approval.approval_id,
    )
    assert approval.approval_id in (await approvals.reconcile()).approval_ids
    await until_acknowledged_and_still_open(approvals, incidents, approval)


async def test_batched_deliveries_keep_their_openings(fronted: Fronted, incidents: Incidents) -> None:
    incident_ids = [await incidents.opened_id() for _ in range(6)]
    fronted.front.behaviour = answer(grpc.StatusCode.UNAVAILABLE)
    approved = [await fronted.approvals.executed(each) for each in incident_ids]
    for each in incident_ids[:3]:
        await incidents.resolve(each, resolution_type="HUMAN")
        await reopen(incidents, each)
    fronted.front.behaviour = pass_on
    for approval in approved:
        await fronted.approvals.until_delivered(approval.approval_id)
    states = [(await incidents.get(each)).state for each in incident_ids]
    assert states == [OPEN] * 3 + [incident_pb2.Incident.STATE_RESOLVED] * 3
