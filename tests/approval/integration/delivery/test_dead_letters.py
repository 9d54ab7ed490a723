"""Dead letters of every topic: listed, counted, re-queued one by one and in bulk."""

import asyncio

import pytest

from awoooi.incident.v1 import incident_pb2
from tests.approval.fronted import Fronted
from tests.approval.integration.delivery.dead_letters import (
    EXECUTION,
    NOTIFICATION,
    OTHER,
    REFUSE,
    RESOLVE,
    TIMELINE,
    count_in,
    executed_noop,
    listed_deliveries,
    topic_stats,
    wait_for_parked,
)
from tests.approval.schemas import rows
from tests.approval.scripted_incidents import pass_on
from tests.callers import DeliveryState, Incidents
from tests.eventually import eventually
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_parked_timeline_entry_is_listed_counted_and_re_queued(
    refusing: Fronted, incidents: Incidents
) -> None:
    approvals = refusing.approvals
    incident_id = await incidents.opened_id()
    refusing.front.timeline_behaviour = REFUSE
    proposed = await approvals.proposed(incident_id)
    (parked,) = await wait_for_parked(approvals, 1)
    assert (parked.topic, parked.approval_id, parked.incident_id) == (
        TIMELINE,
        proposed.approval_id,
        incident_id,
    )
    assert parked.idempotency_key.startswith(f"{proposed.approval_id}/")
    assert parked.last_error == "INVALID_ARGUMENT: scripted"
    mine = approvals.list_deliveries(approval_id=proposed.approval_id)
    assert [each async for each in mine] == [parked]
    assert [each async for each in approvals.list_deliveries(topics=[TIMELINE])] == [parked]
    assert [each async for each in approvals.list_deliveries(topics=[RESOLVE])] == []
    assert list((await approvals.stats("FULL")).deliveries.waiting) == [parked]
    counted = await topic_stats(approvals)
    assert {topic: count_in(each) for topic, each in counted.items()} == {
        RESOLVE: 0,
        TIMELINE: 1,
        EXECUTION: 0,
        NOTIFICATION: 0,
        OTHER: 0,
    }

    refusing.front.timeline_behaviour = pass_on
    back = await approvals.retry_delivery(parked.delivery_id, actor="alice")
    assert (back.state, back.requeued_by) == (DeliveryState.STATE_PENDING, "alice")
    await eventually(lambda: incidents.events(incident_id, incident_pb2.IncidentEvent.TYPE_PROPOSED))
    assert count_in((await topic_stats(approvals))[TIMELINE]) == 0


async def test_dead_letters_are_re_queued_in_bulk_until_none_is_left(
    refusing: Fronted, incidents: Incidents
) -> None:
    approvals = refusing.approvals
    executed = [(await approvals.approved(await incidents.opened_id())).approval_id for _ in range(3)]
    refusing.front.behaviour = REFUSE
    for number, approval_id in enumerate(executed, start=1):
        await approvals.execute(approval_id)
        await wait_for_parked(approvals, number)
    refusing.front.behaviour = pass_on
    first = await approvals.retry_deliveries(limit=2, actor="alice")
    assert [each.approval_id for each in first.deliveries] == executed[:2]
    assert {each.requeued_by for each in first.deliveries} == {"alice"}
    assert first.has_more
    second = await approvals.retry_deliveries(limit=2)
    assert [each.approval_id for each in second.deliveries] == executed[2:]
    assert not second.has_more
    assert not (await approvals.retry_deliveries()).deliveries
    for approval_id in executed:
        await approvals.until_delivered(approval_id)


async def test_dead_letters_that_are_parked_again_go_behind_the_others(
    refusing: Fronted, incidents: Incidents
) -> None:
    approvals = refusing.approvals
    one = (await executed_noop(refusing, await incidents.opened_id())).approval_id
    await wait_for_parked(approvals, 1)
    refusing.front.behaviour = pass_on
    two = (await executed_noop(refusing, await incidents.opened_id())).approval_id
    before = {each.approval_id: each.attempts for each in await wait_for_parked(approvals, 2)}
    assert [each.approval_id for each in (await approvals.retry_deliveries(limit=1)).deliveries] == [one]

    async def attempts() -> int:
        return {each.approval_id: each.attempts for each in await wait_for_parked(approvals, 2)}[one]

    await eventually(attempts, lambda count: count > before[one])
    assert [each.approval_id for each in (await approvals.retry_deliveries(limit=1)).deliveries] == [two]


async def test_a_bulk_re_queue_takes_the_topics_it_is_given(refusing: Fronted, incidents: Incidents) -> None:
    approvals = refusing.approvals
    refusing.front.timeline_behaviour = REFUSE
    approval = await executed_noop(refusing, await incidents.opened_id())
    # Proposed, approved, executed, and the resolve.
    parked = await wait_for_parked(approvals, 4)
    entries = {each.delivery_id for each in parked if each.topic == TIMELINE}
    resolves = await approvals.retry_deliveries(topics=["RESOLVE"])
    assert [each.approval_id for each in resolves.deliveries] == [approval.approval_id]
    assert not (await approvals.retry_deliveries(topics=["EXECUTION", "OTHER"])).deliveries
    requeued = await approvals.retry_deliveries(topics=["TIMELINE"])
    assert {each.delivery_id for each in requeued.deliveries} == entries


async def test_concurrent_bulk_re_queues_take_different_dead_letters(
    refusing: Fronted, incidents: Incidents
) -> None:
    refusing.front.timeline_behaviour = REFUSE
    for _ in range(3):
        await refusing.approvals.proposed(await incidents.opened_id())
    parked = await wait_for_parked(refusing.approvals, 3)
    refusing.front.timeline_behaviour = pass_on
    found = await asyncio.gather(*(refusing.approvals.retry_deliveries() for _ in range(5)))
    requeued = [each.delivery_id for response in found for each in response.deliveries]
    assert sorted(requeued) == sorted(each.delivery_id for each in parked)


async def test_a_parked_job_of_a_topic_that_this_version_does_not_know_is_in_sight(refusing: Fronted) -> None:
    approvals = refusing.approvals
    await rows(
        refusing.service.database_url,
        "INSERT INTO outbox (topic, dedup_key, payload, state) VALUES ('newer', 'x', '{}', 'PARKED')",
    )
    (parked,) = await wait_for_parked(approvals, 1)
    assert (parked.topic, parked.approval_id, parked.idempotency_key) == (OTHER, "", "x")
    assert [each async for each in approvals.list_deliveries(topics=["OTHER"])] == [parked]
    assert count_in((await topic_stats(approvals))[OTHER]) == 1
    (requeued,) = (await approvals.retry_deliveries(topics=["OTHER"])).deliveries
    assert (requeued.delivery_id, requeued.state) == (parked.delivery_id, DeliveryState.STATE_PENDING)


async def test_an_entry_whose_id_is_taken_is_recorded_under_an_id_of_its_own(
    refusing: Fronted, incidents: Incidents, incident_service: RunningService
) -> None:
    """Before such ids were reserved any caller could take them; a restored database may make one again."""
    approvals = refusing.approvals
    incident_id = await incidents.opened_id()
    refusing.front.timeline_behaviour = REFUSE
    proposed = await approvals.proposed(incident_id)
    (parked,) = await wait_for_parked(approvals, 1)
    await rows(
        incident_service.database_url,
        "INSERT INTO incident_events (event_id, incident_id, type, actor, summary, resolution_number)"
        " VALUES ($1, $2, 'NOTE', 'mallory', 'taken', 0)",
        parked.idempotency_key,
        incident_id,
    )
    refusing.front.timeline_behaviour = pass_on
    await approvals.retry_delivery(parked.delivery_id)
    written = await eventually(
        lambda: incidents.events(incident_id, incident_pb2.IncidentEvent.TYPE_PROPOSED)
    )
    (done,) = await eventually(
        lambda: listed_deliveries(approvals, topics=["TIMELINE"], states=["DONE"]),
        lambda found: len(found) == 1,
    )
    assert done.delivery_id == parked.delivery_id
    (event,) = written
    assert event.event_id.startswith(f"{parked.idempotency_key}/")
    assert (event.actor, event.summary) == ("service:approval", proposed.action)
    await refusing.service.logged("incident_event_id_taken", level="warning", incident_id=incident_id)
    # Delivered once more, it is the same event.
    await rows(
        refusing.service.database_url,
        "UPDATE outbox SET state = 'PENDING', next_attempt_time = now() WHERE job_id = $1",
        int(parked.delivery_id),
    )
    await eventually(
        lambda: listed_deliveries(approvals, topics=["TIMELINE"], states=["DONE"]),
        lambda found: len(found) == 1 and found[0].attempts > done.attempts,
    )
    assert await incidents.events(incident_id, incident_pb2.IncidentEvent.TYPE_PROPOSED) == written
