"""Receivers that hang, refuse or fail: they hold up neither decisions nor deliveries, and no message is lost."""

import pytest

from awoooi.approval.v1 import approval_pb2
from tests.approval.integration.notification.notified import (
    TOKEN,
    Notified,
    messages,
    received,
)
from tests.approval.schemas import past_triggers
from tests.callers import DeliveryState, Incidents
from tests.eventually import eventually
from tests.receiver import Held, status

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHOP = "RESTART deployment/web -n shop"
NOTIFICATION = approval_pb2.Delivery.TOPIC_NOTIFICATION


async def _counts(notified: Notified) -> dict[str, int]:
    stats = (await notified.approvals.stats()).deliveries.topics
    (topic,) = [each for each in stats if each.topic == NOTIFICATION]
    return {DeliveryState.Name(each.state): each.count for each in topic.deliveries} | {
        "dismissed": topic.dismissed_total
    }


async def _message_delivery(notified: Notified, approval_id: str) -> approval_pb2.Delivery:
    listed = notified.approvals.list_deliveries(approval_id=approval_id, topics=["NOTIFICATION"])
    return [each async for each in listed][-1]


async def _parked(notified: Notified, approval_id: str) -> approval_pb2.Delivery:
    return await eventually(
        lambda: _message_delivery(notified, approval_id),
        lambda found: found.state == DeliveryState.STATE_PARKED,
    )


async def test_a_channel_that_hangs_holds_up_no_decision_and_no_delivery(
    notified: Notified, incidents: Incidents
) -> None:
    held = [Held(status(204)) for _ in range(40)]
    notified.oncall.answers.extend(held)
    incident_ids = [await incidents.opened_id() for _ in range(6)]

    async def repaired(incident_id: str) -> approval_pb2.Approval:
        executed = await notified.approvals.executed(incident_id)
        return await notified.approvals.until_delivered(executed.approval_id)

    # More messages than may be in flight: two of each approval.
    repairs = [await repaired(incident_id) for incident_id in incident_ids]
    assert all(each.state == approval_pb2.Approval.STATE_SUCCEEDED for each in repairs)
    assert (await _counts(notified))["STATE_PENDING"] > 0
    for one in held:
        one.release.set()
    notified.oncall.answers.clear()
    for approval in repairs:
        await notified.settled(approval.approval_id)
        assert await _events(notified, approval.approval_id) == {"PENDING", "APPROVED"}


async def _events(notified: Notified, approval_id: str) -> set[str]:
    return {each.event for each in messages(notified.oncall, approval_id)}


async def test_only_the_receivers_that_failed_get_a_message_again_and_it_is_the_same_message(
    notified: Notified, incidents: Incidents
) -> None:
    notified.payments.answers.append(status(503))
    proposed = await notified.approvals.proposed(await incidents.opened_id(), SHOP, risk="HIGH")
    await eventually(lambda: _messages(notified, proposed.approval_id), lambda found: found == (1, 2))
    await notified.settled(proposed.approval_id)
    assert await _messages(notified, proposed.approval_id) == (1, 2)
    first, second = messages(notified.payments, proposed.approval_id)
    assert first == second
    delivery = await _message_delivery(notified, proposed.approval_id)
    assert (delivery.attempts, delivery.idempotency_key) == (2, first.message_id)


async def _messages(notified: Notified, approval_id: str) -> tuple[int, int]:
    return len(messages(notified.oncall, approval_id)), len(messages(notified.payments, approval_id))


async def test_a_refused_message_is_parked_counted_listed_and_re_queued(
    notified: Notified, incidents: Incidents
) -> None:
    before = await _counts(notified)
    notified.payments.answers.extend([status(404, body=TOKEN.encode())] * 2)
    incident_id = await incidents.opened_id()
    again = await notified.approvals.proposed(incident_id, SHOP)
    given_up = await notified.approvals.proposed(incident_id, SHOP)
    parked = [await _parked(notified, each.approval_id) for each in (again, given_up)]
    assert {each.last_error for each in parked} == {"URL 2 (JSON): answered 404"}
    assert {each.incident_id for each in parked} == {incident_id}
    after = await _counts(notified)
    assert after["STATE_PARKED"] - before["STATE_PARKED"] == 2
    await notified.approvals.dismiss_delivery(parked[1].delivery_id, reason="decided in a call")
    requeued = await notified.approvals.retry_deliveries(topics=["NOTIFICATION"])
    assert [each.delivery_id for each in requeued.deliveries] == [parked[0].delivery_id]
    await notified.settled(again.approval_id)
    assert len(messages(notified.payments, again.approval_id)) == 2
    assert len(messages(notified.payments, given_up.approval_id)) == 1
    counts = await _counts(notified)
    assert counts["STATE_PARKED"] == before["STATE_PARKED"]
    assert counts["dismissed"] - before["dismissed"] == 1


async def test_a_message_that_is_late_asks_for_no_decision_any_more(
    notified: Notified, incidents: Incidents
) -> None:
    held = Held(status(503))
    notified.payments.answers.append(held)
    proposed = await notified.approvals.proposed(await incidents.opened_id(), SHOP)
    await received(notified.payments, proposed.approval_id, "PENDING")
    await notified.approvals.reject(proposed.approval_id, reason="no")
    held.release.set()
    await eventually(lambda: _messages(notified, proposed.approval_id), lambda found: found == (0, 3))
    await notified.settled(proposed.approval_id)
    pending = [each for each in messages(notified.payments, proposed.approval_id) if each.event == "PENDING"]
    assert "grpcurl" in pending[0].body
    assert "grpcurl" not in pending[1].body
    assert "\nNo decision is needed any more: it is REJECTED\n" in pending[1].body
    assert pending[0].message_id == pending[1].message_id


async def test_a_message_about_an_approval_that_was_removed_is_dropped(
    notified: Notified, incidents: Incidents
) -> None:
    held = Held(status(503))
    notified.payments.answers.append(held)
    proposed = await notified.approvals.proposed(await incidents.opened_id(), SHOP)
    await received(notified.payments, proposed.approval_id, "PENDING")
    await past_triggers(
        notified.service.database_url, "DELETE FROM approvals WHERE approval_id = $1", proposed.approval_id
    )
    held.release.set()
    await notified.service.logged(
        "notification_dropped", approval_id=proposed.approval_id, reason="the approval was removed"
    )
    await notified.settled(proposed.approval_id)
