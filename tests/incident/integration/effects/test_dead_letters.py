"""Dead letters of side effects: re-queued in bulk, dismissed on record."""

import asyncio
from collections.abc import Mapping

import asyncpg
import grpc
import pytest

from awoooi.incident.v1 import incident_pb2
from tests.incident.incidents import HUMAN, UNKNOWN_ID
from tests.incident.integration.effects.dead_letters import REFUSAL, parked, retry
from tests.incident.side_effects import (
    EFFECTS,
    KNOWLEDGE,
    WEBHOOK,
    ConnectedService,
    Number,
    SideEffect,
    ended,
    side_effect,
    side_effects,
)
from tests.rpc_errors import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _dismissed(connected: ConnectedService) -> Mapping[Number, int]:
    counts = (await connected.incidents.stats()).side_effects.dismissed_total
    return {each.effect: each.count for each in counts}


async def _counted(connected: ConnectedService) -> int:
    counts = (await connected.incidents.stats()).side_effects.side_effects
    return sum(each.count for each in counts if each.state == SideEffect.STATE_PARKED)


async def test_dead_letters_are_re_queued_in_bulk_until_none_is_left(connected: ConnectedService) -> None:
    waiting = [(await parked(connected)).incident_id for _ in range(3)]
    first = await connected.incidents.retry_side_effects(limit=2, actor="alice")
    assert [each.incident_id for each in first.side_effects] == waiting[:2]
    assert {(each.effect, each.requeued_by) for each in first.side_effects} == {(WEBHOOK, "alice")}
    assert first.has_more
    second = await connected.incidents.retry_side_effects(limit=2)
    assert [each.incident_id for each in second.side_effects] == waiting[2:]
    assert not second.has_more
    for incident_id in waiting:
        await side_effect(connected.incidents, incident_id, WEBHOOK, "DONE")
    assert not (await connected.incidents.retry_side_effects()).side_effects


async def test_a_bulk_re_queue_takes_the_effects_it_is_given(connected: ConnectedService) -> None:
    incident_id = (await parked(connected)).incident_id
    others = [effect for effect in EFFECTS if effect != WEBHOOK]
    assert not (await connected.incidents.retry_side_effects(effects=others)).side_effects
    found = (await connected.incidents.retry_side_effects(effects=["WEBHOOK"])).side_effects
    assert [each.incident_id for each in found] == [incident_id]
    await side_effect(connected.incidents, incident_id, WEBHOOK, "DONE")


async def test_a_retry_records_its_caller(connected: ConnectedService) -> None:
    incident_id = (await parked(connected)).incident_id
    await connected.incidents.retry_side_effect(incident_id, effect=WEBHOOK, actor="bob")
    assert (await side_effect(connected.incidents, incident_id, WEBHOOK, "DONE")).requeued_by == "bob"


async def test_a_dismissed_effect_is_on_record_and_out_of_the_stats(connected: ConnectedService) -> None:
    incidents = connected.incidents
    incident_id = (await parked(connected)).incident_id
    before = await _dismissed(connected)
    dismissed = await incidents.dismiss_side_effect(
        incident_id, effect=WEBHOOK, reason="the receiver is gone", actor="alice"
    )
    assert (dismissed.state, dismissed.last_error, dismissed.attempts) == (
        SideEffect.STATE_DISMISSED,
        REFUSAL,
        1,
    )
    assert (dismissed.dismissal.actor, dismissed.dismissal.reason) == ("alice", "the receiver is gone")
    assert dismissed.dismissal.HasField("dismiss_time")
    again = await incidents.dismiss_side_effect(incident_id, effect=WEBHOOK, reason="gone", actor="bob")
    assert again == dismissed
    assert dismissed in [each async for each in incidents.list_side_effects(states=["DISMISSED"])]
    assert (await side_effects(incidents, incident_id))[WEBHOOK] == dismissed
    assert await _counted(connected) == 0
    assert not (await incidents.stats("FULL")).side_effects.waiting
    assert await _dismissed(connected) == {**before, WEBHOOK: before[WEBHOOK] + 1}
    (event,) = await incidents.events(incident_id, incident_pb2.IncidentEvent.TYPE_EFFECT_SKIPPED)
    assert (event.actor, event.summary) == ("alice", "dismissed: the receiver is gone")
    assert dict(event.attributes) == {"effect": "WEBHOOK"}

    refusal = await refused(retry(incidents, incident_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SIDE_EFFECT_ENDED")
    assert refusal.metadata == {"current_state": "DISMISSED", "allowed_states": "PARKED"}
    assert not (await incidents.retry_side_effects()).side_effects


async def test_an_effect_of_an_earlier_resolution_is_dismissed_by_its_number(
    connected: ConnectedService,
) -> None:
    incidents = connected.incidents
    incident_id = (await parked(connected)).incident_id
    await incidents.reopen(incident_id, reason="it came back")
    await incidents.resolve(incident_id, resolution_type=HUMAN)
    await ended(incidents, incident_id, number=2)
    refusal = await refused(incidents.dismiss_side_effect(incident_id, effect=WEBHOOK, reason="over"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SIDE_EFFECT_NOT_PARKED")
    assert refusal.metadata == {"current_state": "DONE", "allowed_states": "PARKED"}
    dismissed = await incidents.dismiss_side_effect(
        incident_id, effect=WEBHOOK, resolution_number=1, reason="over"
    )
    assert (dismissed.resolution_number, dismissed.state) == (1, SideEffect.STATE_DISMISSED)


async def test_an_effect_of_an_incident_that_is_no_longer_there_is_dismissed(
    connected: ConnectedService,
) -> None:
    incidents = connected.incidents
    incident_id = (await parked(connected)).incident_id
    connection = await asyncpg.connect(connected.service.database_url)
    try:
        await connection.execute("DELETE FROM incidents WHERE incident_id = $1", incident_id)
    finally:
        await connection.close()
    assert await _counted(connected) == 1
    dismissed = await incidents.dismiss_side_effect(
        incident_id, effect=WEBHOOK, resolution_number=1, reason="removed by hand"
    )
    assert dismissed.state == SideEffect.STATE_DISMISSED
    assert await _counted(connected) == 0


async def test_concurrent_dismissals_return_one_record(connected: ConnectedService) -> None:
    incident_id = (await parked(connected)).incident_id
    before = (await _dismissed(connected))[WEBHOOK]
    found = await asyncio.gather(
        *(
            connected.incidents.dismiss_side_effect(incident_id, effect=WEBHOOK, reason=name, actor=name)
            for name in ("alice", "bob", "carol")
        )
    )
    assert len({each.SerializeToString(deterministic=True) for each in found}) == 1
    assert (await _dismissed(connected))[WEBHOOK] == before + 1


async def test_an_unknown_effect_is_not_dismissed(connected: ConnectedService) -> None:
    opened = (await connected.incidents.opened()).incident_id
    for incident_id, number, reason in (
        (UNKNOWN_ID, 0, "INCIDENT_NOT_FOUND"),
        (UNKNOWN_ID, 1, "SIDE_EFFECT_NOT_FOUND"),
        (opened, 0, "SIDE_EFFECT_NOT_FOUND"),
    ):
        refusal = await refused(
            connected.incidents.dismiss_side_effect(
                incident_id, effect=KNOWLEDGE, resolution_number=number, reason="over"
            )
        )
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, reason)
