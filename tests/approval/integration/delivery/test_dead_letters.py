"""Dead letters of every topic: listed, counted, re-queued one by one and in bulk, dismissed."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats_pb
from awoooi.incident.v1 import incident_pb2
from tests.approval.conftest import AT_REST
from tests.approval.fronted import Fronted
from tests.approval.schemas import approval_database, rows
from tests.approval.scripted_incidents import answer, pass_on, scripted_incidents
from tests.callers import Approvals, DeliveryState, Incidents, approvals_at
from tests.eventually import eventually
from tests.rpc_errors import refused
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

Topic = approval_pb2.Delivery.Topic
RESOLVE, TIMELINE, EXECUTION, NOTIFICATION, OTHER = (
    Topic.TOPIC_RESOLVE,
    Topic.TOPIC_TIMELINE,
    Topic.TOPIC_EXECUTION,
    Topic.TOPIC_NOTIFICATION,
    Topic.TOPIC_OTHER,
)
PARKED = DeliveryState.STATE_PARKED
REFUSE = answer(grpc.StatusCode.INVALID_ARGUMENT, "scripted")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own(incident_service: RunningService) -> AsyncIterator[Fronted]:
    """An approval service with a database of its own: what is parked there, this module has parked."""
    async with scripted_incidents(incident_service.address) as front, approval_database() as url:
        variables = {"APPROVAL_INCIDENT_TARGET": front.address, **AT_REST}
        async with (
            healthy_service("approval", url, variables=variables) as running,
            approvals_at(running.address) as found,
        ):
            yield Fronted(front, found, running)


@pytest_asyncio.fixture(loop_scope="session")
async def refusing(own: Fronted) -> AsyncIterator[Fronted]:
    """The same without a dead letter, and with an incident service that refuses resolves and timeline entries."""
    await rows(own.service.database_url, "DELETE FROM outbox")
    own.front.behaviour = own.front.timeline_behaviour = pass_on
    yield own
    own.front.behaviour = own.front.timeline_behaviour = pass_on


async def _executed(service: Fronted, incident_id: str) -> approval_pb2.Approval:
    """A NO_ACTION whose resolve is refused."""
    approval = await service.approvals.approved(incident_id)
    service.front.behaviour = REFUSE
    return (await service.approvals.execute(approval.approval_id)).approval


async def _listed(approvals: Approvals, **criteria: Any) -> list[approval_pb2.Delivery]:
    return [each async for each in approvals.list_deliveries(**criteria)]


async def _parked(approvals: Approvals, count: int) -> list[approval_pb2.Delivery]:
    """The dead letters, newest first, once there are so many."""
    return await eventually(lambda: _listed(approvals, states=[PARKED]), lambda found: len(found) == count)


async def _topics(approvals: Approvals) -> Mapping[int, stats_pb.DeliveryTopicStats]:
    return {each.topic: each for each in (await approvals.stats()).deliveries.topics}


def _count(topic: stats_pb.DeliveryTopicStats, state: DeliveryState.ValueType = PARKED) -> int:
    (count,) = [each.count for each in topic.deliveries if each.state == state]
    return count


async def test_a_parked_timeline_entry_is_listed_counted_and_re_queued(
    refusing: Fronted, incidents: Incidents
) -> None:
    approvals = refusing.approvals
    incident_id = await incidents.opened_id()
    refusing.front.timeline_behaviour = REFUSE
    proposed = await approvals.proposed(incident_id)
    (parked,) = await _parked(approvals, 1)
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
    counted = await _topics(approvals)
    assert {topic: _count(each) for topic, each in counted.items()} == {
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
    assert _count((await _topics(approvals))[TIMELINE]) == 0


async def test_dead_letters_are_re_queued_in_bulk_until_none_is_left(
    refusing: Fronted, incidents: Incidents
) -> None:
    approvals = refusing.approvals
    executed = [(await approvals.approved(await incidents.opened_id())).approval_id for _ in range(3)]
    refusing.front.behaviour = REFUSE
    for number, approval_id in enumerate(executed, start=1):
        await approvals.execute(approval_id)
        await _parked(approvals, number)
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
    one = (await _executed(refusing, await incidents.opened_id())).approval_id
    await _parked(approvals, 1)
    refusing.front.behaviour = pass_on
    two = (await _executed(refusing, await incidents.opened_id())).approval_id
    before = {each.approval_id: each.attempts for each in await _parked(approvals, 2)}
    assert [each.approval_id for each in (await approvals.retry_deliveries(limit=1)).deliveries] == [one]

    async def attempts() -> int:
        return {each.approval_id: each.attempts for each in await _parked(approvals, 2)}[one]

    await eventually(attempts, lambda count: count > before[one])
    assert [each.approval_id for each in (await approvals.retry_deliveries(limit=1)).deliveries] == [two]


async def test_a_bulk_re_queue_takes_the_topics_it_is_given(refusing: Fronted, incidents: Incidents) -> None:
    approvals = refusing.approvals
    refusing.front.timeline_behaviour = REFUSE
    approval = await _executed(refusing, await incidents.opened_id())
    # Proposed, approved, executed, and the resolve.
    parked = await _parked(approvals, 4)
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
    parked = await _parked(refusing.approvals, 3)
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
    (parked,) = await _parked(approvals, 1)
    assert (parked.topic, parked.approval_id, parked.idempotency_key) == (OTHER, "", "x")
    assert [each async for each in approvals.list_deliveries(topics=["OTHER"])] == [parked]
    assert _count((await _topics(approvals))[OTHER]) == 1
    (requeued,) = (await approvals.retry_deliveries(topics=["OTHER"])).deliveries
    assert (requeued.delivery_id, requeued.state) == (parked.delivery_id, DeliveryState.STATE_PENDING)


@pytest.mark.parametrize(
    ("topic", "payload", "kind"),
    [
        ("newer", "{}", OTHER),
        ("incident.resolve", "[1]", RESOLVE),
        ("incident.timeline", '{"attributes": [], "incident_id": 7}', TIMELINE),
    ],
)
async def test_a_dead_letter_that_another_version_wrote_is_dismissed_on_record(
    refusing: Fronted, topic: str, payload: str, kind: Topic.ValueType
) -> None:
    approvals = refusing.approvals
    before = (await _topics(approvals))[kind].dismissed_total
    await rows(
        refusing.service.database_url,
        "INSERT INTO outbox (topic, dedup_key, payload, state) VALUES ($1, 'x', $2::jsonb, 'PARKED')",
        topic,
        payload,
    )
    (parked,) = await _parked(approvals, 1)
    assert (parked.topic, parked.approval_id, parked.incident_id) == (kind, "", "")
    dismissed = await approvals.dismiss_delivery(
        parked.delivery_id, reason="that version is gone", actor="alice"
    )
    assert (dismissed.dismissal.actor, dismissed.dismissal.reason) == ("alice", "that version is gone")
    assert [each async for each in approvals.list_deliveries(states=["DISMISSED"])] == [dismissed]
    assert [each async for each in approvals.list_deliveries(topics=[kind])] == [dismissed]
    now = (await _topics(approvals))[kind]
    assert (_count(now), now.dismissed_total) == (0, before + 1)


async def test_a_dismissed_delivery_is_on_record_and_out_of_the_figures(
    refusing: Fronted, incidents: Incidents
) -> None:
    approvals = refusing.approvals
    before = (await approvals.stats()).executions
    approval = await _executed(refusing, await incidents.opened_id())
    (parked,) = await _parked(approvals, 1)
    dismissed = await approvals.dismiss_delivery(parked.delivery_id, reason="it is over", actor="alice")
    assert (dismissed.state, dismissed.last_error) == (DeliveryState.STATE_DISMISSED, parked.last_error)
    assert (dismissed.dismissal.actor, dismissed.dismissal.reason) == ("alice", "it is over")
    assert dismissed.dismissal.HasField("dismiss_time")
    assert not dismissed.HasField("done_time")
    # Later callers get the record.
    again = await approvals.dismiss_delivery(parked.delivery_id, reason="over", actor="bob")
    assert again == dismissed
    listed = approvals.list_deliveries(states=["DISMISSED"])
    assert [each async for each in listed] == [dismissed]
    assert [each async for each in approvals.list_deliveries(states=["DONE", "PARKED"])] == []

    stats = await approvals.stats("FULL")
    assert not stats.deliveries.waiting
    resolves = (await _topics(approvals))[RESOLVE]
    assert _count(resolves) == 0
    # Once, however often it was called.
    executions = stats.executions
    assert executions.noop_executions_total == before.noop_executions_total + 1
    assert executions.noop_resolutions_total == before.noop_resolutions_total + 1
    assert (
        executions.noop_executions_total - executions.noop_resolutions_total
        == before.noop_executions_total - before.noop_resolutions_total
    )
    assert not (await approvals.get(approval.approval_id)).HasField("incident_resolve_time")


async def test_what_was_dismissed_is_counted(refusing: Fronted, incidents: Incidents) -> None:
    approvals = refusing.approvals
    before = await _topics(approvals)
    refusing.front.timeline_behaviour = REFUSE
    await approvals.proposed(await incidents.opened_id())
    (parked,) = await _parked(approvals, 1)
    for _ in range(2):
        await approvals.dismiss_delivery(parked.delivery_id, reason="not needed")
    after = await _topics(approvals)
    raised = {topic: after[topic].dismissed_total - before[topic].dismissed_total for topic in after}
    assert raised == {RESOLVE: 0, TIMELINE: 1, EXECUTION: 0, NOTIFICATION: 0, OTHER: 0}


async def test_the_reconciler_leaves_a_dismissed_resolve_alone(
    refusing: Fronted, incidents: Incidents
) -> None:
    approvals = refusing.approvals
    approval = await _executed(refusing, await incidents.opened_id())
    (parked,) = await _parked(approvals, 1)
    await approvals.dismiss_delivery(parked.delivery_id, reason="it is over")
    refusing.front.behaviour = pass_on
    assert approval.approval_id not in (await approvals.reconcile()).approval_ids
    (found,) = [each async for each in approvals.list_deliveries(approval_id=approval.approval_id)]
    assert found.state == DeliveryState.STATE_DISMISSED
    await rows(refusing.service.database_url, "DELETE FROM outbox")
    assert approval.approval_id in (await approvals.reconcile()).approval_ids


async def test_a_dismissed_delivery_is_not_re_queued(refusing: Fronted, incidents: Incidents) -> None:
    approvals = refusing.approvals
    await _executed(refusing, await incidents.opened_id())
    (parked,) = await _parked(approvals, 1)
    dismissed = await approvals.dismiss_delivery(parked.delivery_id, reason="it is over")
    refusal = await refused(approvals.retry_delivery(parked.delivery_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DELIVERY_DONE")
    assert refusal.metadata == {"current_state": "DISMISSED", "allowed_states": "PARKED, PENDING"}
    assert not (await approvals.retry_deliveries()).deliveries
    assert [each async for each in approvals.list_deliveries(states=["DISMISSED"])] == [dismissed]


async def test_only_a_dead_letter_is_dismissed(refusing: Fronted, incidents: Incidents) -> None:
    approvals = refusing.approvals
    approval = await approvals.executed(await incidents.opened_id())
    done = await approvals.until_delivery(approval.approval_id, DeliveryState.STATE_DONE)
    refusal = await refused(approvals.dismiss_delivery(done.delivery_id, reason="why not"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DELIVERY_NOT_PARKED")
    assert refusal.metadata == {"current_state": "DONE", "allowed_states": "PARKED"}
    assert await approvals.delivery(approval.approval_id) == done


async def test_concurrent_dismissals_return_one_record(refusing: Fronted, incidents: Incidents) -> None:
    approvals = refusing.approvals
    await _executed(refusing, await incidents.opened_id())
    (parked,) = await _parked(approvals, 1)
    before = (await _topics(approvals))[RESOLVE].dismissed_total
    callers = [f"operator-{secrets.token_hex(2)}" for _ in range(5)]
    found = await asyncio.gather(
        *(approvals.dismiss_delivery(parked.delivery_id, reason=name, actor=name) for name in callers)
    )
    assert len({each.SerializeToString(deterministic=True) for each in found}) == 1
    assert found[0].dismissal.reason == found[0].dismissal.actor
    assert (await _topics(approvals))[RESOLVE].dismissed_total == before + 1


async def test_an_unknown_delivery_is_not_dismissed(refusing: Fronted) -> None:
    refusal = await refused(refusing.approvals.dismiss_delivery("999999999999", reason="gone"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "DELIVERY_NOT_FOUND")


async def test_an_entry_whose_id_somebody_took_is_recorded_under_an_id_of_its_own(
    refusing: Fronted, incidents: Incidents, incident_service: RunningService
) -> None:
    """Before such ids were reserved anybody could take them; a restored database may make one again."""
    approvals = refusing.approvals
    incident_id = await incidents.opened_id()
    refusing.front.timeline_behaviour = REFUSE
    proposed = await approvals.proposed(incident_id)
    (parked,) = await _parked(approvals, 1)
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
        lambda: _listed(approvals, topics=["TIMELINE"], states=["DONE"]), lambda found: len(found) == 1
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
        lambda: _listed(approvals, topics=["TIMELINE"], states=["DONE"]),
        lambda found: len(found) == 1 and found[0].attempts > done.attempts,
    )
    assert await incidents.events(incident_id, incident_pb2.IncidentEvent.TYPE_PROPOSED) == written
