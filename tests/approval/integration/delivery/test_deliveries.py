"""ListDeliveries, and RetryDelivery of a dead letter."""

import asyncio
import secrets
from datetime import timedelta
from typing import Any

import grpc
import pytest

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.approval.fronted import Fronted
from tests.approval.schemas import end_leases
from tests.approval.scripted_incidents import hang, pass_on
from tests.callers import Approvals, DeliveryState, Incidents, State
from tests.rpc_errors import refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _new_id() -> str:
    return f"INC-20260507-{secrets.token_hex(6).upper()}"


async def _executed_for_unknown(fronted: Fronted, incident_id: str) -> approval_pb2.Approval:
    """A NO_ACTION for an unknown incident, proposed while the incident service was unreachable."""
    await fronted.front.stop()
    approval = await fronted.approvals.approved(incident_id)
    await fronted.front.start()
    return (await fronted.approvals.execute(approval.approval_id)).approval


async def test_an_unknown_incident_parks_the_delivery_as_a_dead_letter_with_its_error(
    fronted: Fronted, incident_service: RunningService
) -> None:
    incident_id = _new_id()
    before = await _parked(fronted.approvals)
    approval = await _executed_for_unknown(fronted, incident_id)
    assert approval.state == State.STATE_SUCCEEDED
    assert not approval.incident_verified
    parked = await fronted.approvals.until_delivery(approval.approval_id, DeliveryState.STATE_PARKED)
    assert parked.incident_id == incident_id
    assert parked.last_error == "NOT_FOUND: There is no incident with this id."
    assert await _parked(fronted.approvals) == before + 1
    listed = (await fronted.approvals.list_deliveries(states=[DeliveryState.STATE_PARKED]).page()).deliveries
    assert parked in listed
    assert (await fronted.approvals.get(approval.approval_id)).state == State.STATE_SUCCEEDED
    await incident_service.logged("incident_not_found_for_resolve", incident_id=incident_id)
    # The channel may have been at rest after the outage: there the first failure is another one.
    await fronted.service.logged(
        "incident_resolve_after_no_action_execution_failed",
        approval_id=approval.approval_id,
        incident_id=incident_id,
        path="no_action",
        error="NOT_FOUND: There is no incident with this id.",
    )
    await fronted.service.logged("outbox_job_parked", level="error", job_id=int(parked.delivery_id))


async def test_a_dead_letter_that_is_re_queued_is_delivered_when_its_incident_exists(
    fronted: Fronted, incidents: Incidents
) -> None:
    incident_id = _new_id()
    approval = await _executed_for_unknown(fronted, incident_id)
    parked = await fronted.approvals.until_delivery(approval.approval_id, DeliveryState.STATE_PARKED)
    before = await _parked(fronted.approvals)
    await incidents.opened_id(incident_id=incident_id)
    back = await fronted.approvals.retry_delivery(parked.delivery_id)
    assert back.state == DeliveryState.STATE_PENDING
    assert back.HasField("next_attempt_time")
    await fronted.approvals.until_delivered(approval.approval_id)
    assert await _parked(fronted.approvals) == before - 1
    incident = await incidents.get(incident_id)
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_NO_ACTION


async def test_a_dead_letter_that_is_re_queued_too_early_is_parked_again(fronted: Fronted) -> None:
    approval = await _executed_for_unknown(fronted, _new_id())
    parked = await fronted.approvals.until_delivery(approval.approval_id, DeliveryState.STATE_PARKED)
    await fronted.approvals.retry_delivery(parked.delivery_id)
    again = await fronted.approvals.until_delivery(approval.approval_id, DeliveryState.STATE_PARKED)
    # The first look may have come before the try.
    while again.attempts == parked.attempts:
        again = await fronted.approvals.until_delivery(approval.approval_id, DeliveryState.STATE_PARKED)
    assert again.attempts == parked.attempts + 1


async def test_concurrent_retries_of_a_dead_letter_all_succeed_and_it_is_delivered(
    fronted: Fronted, incidents: Incidents
) -> None:
    incident_id = _new_id()
    approval = await _executed_for_unknown(fronted, incident_id)
    parked = await fronted.approvals.until_delivery(approval.approval_id, DeliveryState.STATE_PARKED)
    await incidents.opened_id(incident_id=incident_id)
    # None of them can be too late: what is delivered is not answered before it is healed.
    fronted.front.behaviour = hang
    found = await asyncio.gather(*(fronted.approvals.retry_delivery(parked.delivery_id) for _ in range(10)))
    assert {delivery.state for delivery in found} == {DeliveryState.STATE_PENDING}
    fronted.front.behaviour = pass_on
    await fronted.approvals.until_delivered(approval.approval_id)
    assert (await incidents.get(incident_id)).resolution_number == 1


async def test_a_done_delivery_cannot_be_re_queued(approvals: Approvals, incidents: Incidents) -> None:
    approval = await approvals.executed(await incidents.opened_id())
    done = await approvals.until_delivery(approval.approval_id, DeliveryState.STATE_DONE)
    refusal = await refused(approvals.retry_delivery(done.delivery_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DELIVERY_DONE")
    assert await approvals.delivery(approval.approval_id) == done


@pytest.mark.parametrize("delivery_id", ["0", "999999999999999999", "9" * 128, "abc", "-1", "1e3", "0x1"])
async def test_an_unknown_delivery_is_not_found(approvals: Approvals, delivery_id: str) -> None:
    refusal = await refused(approvals.retry_delivery(delivery_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "DELIVERY_NOT_FOUND")


async def test_deliveries_are_listed_newest_first_page_by_page(
    approvals: Approvals, incidents: Incidents
) -> None:
    executed = [(await approvals.executed(await incidents.opened_id())).approval_id for _ in range(5)]
    found: list[str] = []
    token = ""
    while not set(executed) <= set(found):
        page = await approvals.list_deliveries(page_size=2, page_token=token).page()
        assert 1 <= len(page.deliveries) <= 2
        found += [delivery.approval_id for delivery in page.deliveries]
        token = page.next_page_token
    assert [approval_id for approval_id in found if approval_id in executed] == executed[::-1]
    assert len(found) == len(set(found))


async def test_the_last_page_of_deliveries_has_no_token(approvals: Approvals, incidents: Incidents) -> None:
    approval = await approvals.executed(await incidents.opened_id())
    page = await approvals.list_deliveries(approval_id=approval.approval_id, page_size=1).page()
    assert len(page.deliveries) == 1
    assert page.next_page_token == ""


STATES: dict[str, tuple[list[Any], int]] = {
    "any": ([], 1),
    "done": ([DeliveryState.STATE_DONE], 1),
    "done_or_parked": ([DeliveryState.STATE_DONE, DeliveryState.STATE_PARKED], 1),
    "pending": ([DeliveryState.STATE_PENDING], 0),
    "parked": ([DeliveryState.STATE_PARKED], 0),
}


@pytest.mark.parametrize(("states", "count"), STATES.values(), ids=STATES)
async def test_deliveries_are_filtered_by_state_and_approval(
    approvals: Approvals, incidents: Incidents, states: list[Any], count: int
) -> None:
    approval = await approvals.executed(await incidents.opened_id())
    await approvals.until_delivered(approval.approval_id)
    found = await approvals.list_deliveries(states=states, approval_id=approval.approval_id).page()
    assert len(found.deliveries) == count


async def test_a_token_of_other_deliveries_is_refused(approvals: Approvals, incidents: Incidents) -> None:
    for _ in range(2):
        await approvals.executed(await incidents.opened_id())
    token = (await approvals.list_deliveries(page_size=1).page()).next_page_token
    refusal = await refused(
        approvals.list_deliveries(states=[DeliveryState.STATE_DONE], page_token=token).page()
    )
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))


async def test_each_unknown_incident_of_a_batch_is_logged(
    fronted: Fronted, incident_service: RunningService
) -> None:
    await fronted.front.stop()
    ids = [_new_id() for _ in range(5)]
    executed = [(await fronted.approvals.executed(each)).approval_id for each in ids]
    # All fall due at one instant, with the peer back.
    await end_leases(fronted.service.database_url, timedelta(seconds=2))
    fronted.front.resolves.clear()
    await fronted.front.start()
    for approval_id in executed:
        await fronted.approvals.until_delivery(approval_id, DeliveryState.STATE_PARKED)
    assert len(fronted.front.resolves) < len(ids)
    logged = {line["incident_id"] for line in incident_service.events("incident_not_found_for_resolve")}
    assert set(ids) <= logged


async def _parked(approvals: Approvals) -> int:
    stats = (await approvals.stats()).deliveries
    return next(entry.count for entry in stats.deliveries if entry.state == DeliveryState.STATE_PARKED)
