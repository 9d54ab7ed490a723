"""Dead letters that are dismissed: on record, counted, and not delivered again."""

import asyncio
import secrets

import grpc
import pytest

from tests.approval.fronted import Fronted
from tests.approval.integration.delivery.dead_letters import (
    EXECUTION,
    NOTIFICATION,
    OTHER,
    REFUSE,
    RESOLVE,
    TIMELINE,
    Topic,
    count_in,
    executed_noop,
    topic_stats,
    wait_for_parked,
)
from tests.approval.schemas import rows
from tests.approval.scripted_incidents import pass_on
from tests.callers import DeliveryState, Incidents
from tests.eventually import eventually
from tests.rpc_errors import refused

pytestmark = pytest.mark.asyncio(loop_scope="session")


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
    before = (await topic_stats(approvals))[kind].dismissed_total
    await rows(
        refusing.service.database_url,
        "INSERT INTO outbox (topic, dedup_key, payload, state) VALUES ($1, 'x', $2::jsonb, 'PARKED')",
        topic,
        payload,
    )
    (parked,) = await wait_for_parked(approvals, 1)
    assert (parked.topic, parked.approval_id, parked.incident_id) == (kind, "", "")
    dismissed = await approvals.dismiss_delivery(
        parked.delivery_id, reason="that version is gone", actor="alice"
    )
    assert (dismissed.dismissal.actor, dismissed.dismissal.reason) == ("alice", "that version is gone")
    assert [each async for each in approvals.list_deliveries(states=["DISMISSED"])] == [dismissed]
    assert [each async for each in approvals.list_deliveries(topics=[kind])] == [dismissed]
    now = (await topic_stats(approvals))[kind]
    assert (count_in(now), now.dismissed_total) == (0, before + 1)


async def test_a_dismissed_delivery_is_on_record_and_out_of_the_stats(
    refusing: Fronted, incidents: Incidents
) -> None:
    approvals = refusing.approvals
    before = (await approvals.stats()).executions
    approval = await executed_noop(refusing, await incidents.opened_id())
    (parked,) = await wait_for_parked(approvals, 1)
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

    # The entries of the timeline are delivered by now, or soon.
    stats = await eventually(lambda: approvals.stats("FULL"), lambda found: not found.deliveries.waiting)
    resolves = (await topic_stats(approvals))[RESOLVE]
    assert count_in(resolves) == 0
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
    before = await topic_stats(approvals)
    refusing.front.timeline_behaviour = REFUSE
    await approvals.proposed(await incidents.opened_id())
    (parked,) = await wait_for_parked(approvals, 1)
    for _ in range(2):
        await approvals.dismiss_delivery(parked.delivery_id, reason="not needed")
    after = await topic_stats(approvals)
    raised = {topic: after[topic].dismissed_total - before[topic].dismissed_total for topic in after}
    assert raised == {RESOLVE: 0, TIMELINE: 1, EXECUTION: 0, NOTIFICATION: 0, OTHER: 0}


async def test_the_reconciler_leaves_a_dismissed_resolve_alone(
    refusing: Fronted, incidents: Incidents
) -> None:
    approvals = refusing.approvals
    approval = await executed_noop(refusing, await incidents.opened_id())
    (parked,) = await wait_for_parked(approvals, 1)
    await approvals.dismiss_delivery(parked.delivery_id, reason="it is over")
    refusing.front.behaviour = pass_on
    assert approval.approval_id not in (await approvals.reconcile()).approval_ids
    (found,) = [each async for each in approvals.list_deliveries(approval_id=approval.approval_id)]
    assert found.state == DeliveryState.STATE_DISMISSED
    await rows(refusing.service.database_url, "DELETE FROM outbox")
    assert approval.approval_id in (await approvals.reconcile()).approval_ids


async def test_a_dismissed_delivery_is_not_re_queued(refusing: Fronted, incidents: Incidents) -> None:
    approvals = refusing.approvals
    await executed_noop(refusing, await incidents.opened_id())
    (parked,) = await wait_for_parked(approvals, 1)
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
    await executed_noop(refusing, await incidents.opened_id())
    (parked,) = await wait_for_parked(approvals, 1)
    before = (await topic_stats(approvals))[RESOLVE].dismissed_total
    callers = [f"operator-{secrets.token_hex(2)}" for _ in range(5)]
    found = await asyncio.gather(
        *(approvals.dismiss_delivery(parked.delivery_id, reason=name, actor=name) for name in callers)
    )
    assert len({each.SerializeToString(deterministic=True) for each in found}) == 1
    assert found[0].dismissal.reason == found[0].dismissal.actor
    assert (await topic_stats(approvals))[RESOLVE].dismissed_total == before + 1


async def test_an_unknown_delivery_is_not_dismissed(refusing: Fronted) -> None:
    refusal = await refused(refusing.approvals.dismiss_delivery("999999999999", reason="gone"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "DELIVERY_NOT_FOUND")
