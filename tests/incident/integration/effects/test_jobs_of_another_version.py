"""Dead letters that another version of the service left: in sight, re-queued, dismissed on record."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import grpc
import pytest
import pytest_asyncio

from awoooi.client.values import SideEffectState
from awoooi.incident.v1 import incident_pb2
from tests.incident.integration.effects.dead_letters import parked
from tests.incident.side_effects import WEBHOOK, ConnectedService, Number, SideEffect
from tests.rpc_errors import refused

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER = SideEffect.EFFECT_UNSPECIFIED


class Job(NamedTuple):
    """A job as another version wrote it, and as this version names it."""

    topic: str
    dedup_key: str
    payload: str
    effect: Number
    delivery_id: str


OF_ANOTHER_VERSION = {
    "topic": Job("effect.newer", "x", "{}", OTHER, "effect.newer/x"),
    "topic with a long key": Job("newer", "a/b " + "ż" * 200, "[1]", OTHER, "newer/a/b " + "ż" * 200),
    "payload": Job(
        "effect.webhook", "INC-20260507-99ADF2/7", '{"format": 2}', WEBHOOK, "INC-20260507-99ADF2/webhook/7"
    ),
    "payload that is no object": Job(
        "effect.webhook", "INC-20260507-99ADF2/8", "[]", WEBHOOK, "INC-20260507-99ADF2/webhook/8"
    ),
    "key": Job("effect.webhook", "webhook of 7", '{"format": 3}', WEBHOOK, "effect.webhook/webhook of 7"),
    "number": Job(
        "effect.webhook",
        "INC-20260507-99ADF2/99999999999",
        "{}",
        WEBHOOK,
        "effect.webhook/INC-20260507-99ADF2/99999999999",
    ),
}


@pytest_asyncio.fixture(loop_scope="module")
async def rows(connected: ConnectedService) -> AsyncIterator["Rows"]:
    connection = await asyncpg.connect(connected.service.database_url)
    try:
        yield connection
    finally:
        await connection.execute(
            "DELETE FROM outbox WHERE topic LIKE '%newer' OR dedup_key LIKE 'INC-20260507-%' OR dedup_key = 'webhook of 7'"
        )
        await connection.close()


async def _write(rows: "Rows", job: Job, state: str = "PARKED") -> None:
    await rows.execute(
        "INSERT INTO outbox (topic, dedup_key, payload, state, last_error) VALUES ($1, $2, $3::jsonb, $4, 'no')",
        job.topic,
        job.dedup_key,
        job.payload,
        state,
    )


async def _listed(connected: ConnectedService, state: SideEffectState) -> list[incident_pb2.SideEffect]:
    return [each async for each in connected.incidents.list_side_effects(states=[state])]


async def _counted(connected: ConnectedService, effect: Number) -> int:
    counts = (await connected.incidents.stats()).side_effects.side_effects
    return sum(
        each.count for each in counts if (each.effect, each.state) == (effect, SideEffect.STATE_PARKED)
    )


async def _dismissed(connected: ConnectedService, effect: Number) -> int:
    counts = (await connected.incidents.stats()).side_effects.dismissed_total
    return sum(each.count for each in counts if each.effect == effect)


@pytest.mark.parametrize("job", OF_ANOTHER_VERSION.values(), ids=OF_ANOTHER_VERSION)
async def test_it_is_in_sight_and_dismissed_on_record(
    connected: ConnectedService, rows: "Rows", job: Job
) -> None:
    incidents = connected.incidents
    await _write(rows, job)
    (found,) = await _listed(connected, "PARKED")
    assert (found.effect, found.delivery_id, found.last_error) == (job.effect, job.delivery_id, "no")
    assert await _counted(connected, job.effect) == 1
    assert list((await incidents.stats("FULL")).side_effects.waiting) == [found]
    before = await _dismissed(connected, job.effect)

    dismissed = await incidents.dismiss_side_effect(
        delivery_id=found.delivery_id, reason="that version is gone", actor="alice"
    )
    assert (dismissed.state, dismissed.delivery_id) == (SideEffect.STATE_DISMISSED, found.delivery_id)
    assert (dismissed.dismissal.actor, dismissed.dismissal.reason) == ("alice", "that version is gone")
    assert dismissed.dismissal.HasField("dismiss_time")
    again = await incidents.dismiss_side_effect(delivery_id=found.delivery_id, reason="gone", actor="bob")
    assert again == dismissed
    assert dismissed in await _listed(connected, "DISMISSED")
    assert dismissed in [each async for each in incidents.list_side_effects()]
    assert not await _listed(connected, "PARKED")
    assert await _counted(connected, job.effect) == 0
    assert not (await incidents.stats("FULL")).side_effects.waiting
    assert await _dismissed(connected, job.effect) == before + 1

    refusal = await refused(incidents.retry_side_effect(delivery_id=found.delivery_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SIDE_EFFECT_ENDED")
    assert not (await incidents.retry_side_effects()).side_effects


async def test_it_is_re_queued_by_its_delivery_id_and_not_dismissed_then(
    connected: ConnectedService, rows: "Rows"
) -> None:
    job = OF_ANOTHER_VERSION["topic"]
    await _write(rows, job)
    for _ in range(2):
        requeued = await connected.incidents.retry_side_effect(delivery_id=job.delivery_id, actor="alice")
        assert (requeued.state, requeued.requeued_by) == (SideEffect.STATE_PENDING, "alice")
    refusal = await refused(
        connected.incidents.dismiss_side_effect(delivery_id=job.delivery_id, reason="over")
    )
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SIDE_EFFECT_NOT_PARKED")
    assert refusal.metadata == {"current_state": "PENDING", "allowed_states": "PARKED"}


async def test_it_is_re_queued_in_bulk_when_no_effect_is_given(
    connected: ConnectedService, rows: "Rows"
) -> None:
    job = OF_ANOTHER_VERSION["topic"]
    await _write(rows, job)
    assert not (await connected.incidents.retry_side_effects(effects=["WEBHOOK"])).side_effects
    (requeued,) = (await connected.incidents.retry_side_effects()).side_effects
    assert (requeued.delivery_id, requeued.state) == (job.delivery_id, SideEffect.STATE_PENDING)
    assert await _counted(connected, OTHER) == 0


async def test_concurrent_dismissals_return_one_record(connected: ConnectedService, rows: "Rows") -> None:
    job = OF_ANOTHER_VERSION["topic"]
    await _write(rows, job)
    before = await _dismissed(connected, OTHER)
    found = await asyncio.gather(
        *(
            connected.incidents.dismiss_side_effect(delivery_id=job.delivery_id, reason=name, actor=name)
            for name in ("alice", "bob", "carol")
        )
    )
    assert len({each.SerializeToString(deterministic=True) for each in found}) == 1
    assert await _dismissed(connected, OTHER) == before + 1


async def test_an_effect_of_this_version_is_dismissed_by_its_delivery_id(connected: ConnectedService) -> None:
    incidents = connected.incidents
    waiting = await parked(connected)
    dismissed = await incidents.dismiss_side_effect(
        delivery_id=waiting.delivery_id, reason="the receiver is gone", actor="alice"
    )
    assert (dismissed.incident_id, dismissed.effect) == (waiting.incident_id, WEBHOOK)
    assert dismissed == await incidents.dismiss_side_effect(
        waiting.incident_id, effect=WEBHOOK, reason="gone"
    )
    (event,) = await incidents.events(waiting.incident_id, incident_pb2.IncidentEvent.TYPE_EFFECT_SKIPPED)
    assert (event.actor, event.summary) == ("alice", "dismissed: the receiver is gone")


@pytest.mark.parametrize("delivery_id", ["nothing", "effect.newer/unknown", "INC-20260507-000000/webhook/1"])
async def test_an_unknown_delivery_id_is_not_found(connected: ConnectedService, delivery_id: str) -> None:
    for call in (
        connected.incidents.dismiss_side_effect(delivery_id=delivery_id, reason="over"),
        connected.incidents.retry_side_effect(delivery_id=delivery_id),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SIDE_EFFECT_NOT_FOUND")
