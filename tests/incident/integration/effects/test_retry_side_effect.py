"""RetrySideEffect: a dead letter is re-queued, once, and only a dead letter."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.callers import incidents_at
from tests.incident.incidents import HUMAN, UNKNOWN_ID
from tests.incident.integration.effects.dead_letters import REFUSAL, parked, retry
from tests.incident.side_effects import (
    DISPOSITION,
    EFFECTS,
    KNOWLEDGE,
    NOTIFICATION,
    POSTMORTEM,
    WEBHOOK,
    ConnectedService,
    Number,
    SideEffect,
    ended,
    side_effect,
    side_effects,
)
from tests.receiver import Held, status
from tests.rpc_errors import refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def counted(connected: ConnectedService, state: "SideEffect.State.ValueType") -> int:
    """The number of webhooks in a state, from the stats."""
    found = (await connected.incidents.stats()).side_effects.side_effects
    (count,) = [each.count for each in found if (each.effect, each.state) == (WEBHOOK, state)]
    return count


async def test_a_dead_letter_is_listed_counted_requeued_and_done(
    connected: ConnectedService,
) -> None:
    refused_effect = await parked(connected)
    incident_id = refused_effect.incident_id
    assert (refused_effect.last_error, refused_effect.attempts) == (REFUSAL, 1)
    assert not refused_effect.HasField("done_time")
    assert not refused_effect.HasField("next_attempt_time")
    narrow: dict[str, Any] = {"states": [SideEffect.STATE_PARKED], "effects": [WEBHOOK]}
    assert list((await connected.incidents.list_side_effects(**narrow).page()).side_effects) == [
        refused_effect
    ]
    assert await counted(connected, SideEffect.STATE_PARKED) == 1
    assert list((await connected.incidents.stats("FULL")).side_effects.waiting) == [refused_effect]

    back = await retry(connected.incidents, incident_id)
    assert back.state == SideEffect.STATE_PENDING
    done = await side_effect(connected.incidents, incident_id, WEBHOOK, "DONE")
    assert (done.attempts, done.delivery_id) == (2, refused_effect.delivery_id)
    assert len(connected.posts(incident_id)) == 2
    assert await counted(connected, SideEffect.STATE_PARKED) == 0
    assert not (await connected.incidents.stats("FULL")).side_effects.waiting
    types = await connected.incidents.event_types(incident_id)
    assert types.count("EFFECT_PARKED") == 1
    assert types.count("EFFECT_DONE") == len(EFFECTS)


async def test_a_requeued_effect_that_is_refused_again_is_parked_again(connected: ConnectedService) -> None:
    incident_id = (await parked(connected)).incident_id
    connected.webhook.answers.append(status(410))
    await retry(connected.incidents, incident_id)
    found = (await ended(connected.incidents, incident_id))[WEBHOOK]
    assert (found.state, found.attempts) == (SideEffect.STATE_PARKED, 2)
    assert found.last_error == "the receiver answered 410"
    assert (await connected.incidents.event_types(incident_id)).count("EFFECT_PARKED") == 2
    await retry(connected.incidents, incident_id)
    await side_effect(connected.incidents, incident_id, WEBHOOK, "DONE")


async def test_concurrent_retries_of_an_effect_requeue_it_once_and_all_succeed(
    connected: ConnectedService,
) -> None:
    incident_id = (await parked(connected)).incident_id
    held = Held(status(204))
    connected.webhook.answers.append(held)
    requeued = await asyncio.gather(*(retry(connected.incidents, incident_id) for _ in range(20)))
    assert {effect.state for effect in requeued} == {SideEffect.STATE_PENDING}
    assert await counted(connected, SideEffect.STATE_PENDING) == 1
    held.release.set()
    done = await side_effect(connected.incidents, incident_id, WEBHOOK, "DONE")
    assert (done.attempts, len(connected.posts(incident_id))) == (2, 2)


async def test_a_retry_of_a_pending_effect_changes_nothing(connected: ConnectedService) -> None:
    held = Held(status(204))
    connected.webhook.answers.append(held)
    incident_id = (await connected.incidents.resolved()).incident_id
    before = await side_effect(connected.incidents, incident_id, WEBHOOK, "PENDING")
    assert before.HasField("next_attempt_time")
    unchanged = await retry(connected.incidents, incident_id)
    assert unchanged == (await side_effects(connected.incidents, incident_id))[WEBHOOK]
    held.release.set()
    done = await side_effect(connected.incidents, incident_id, WEBHOOK, "DONE")
    assert (done.attempts, len(connected.posts(incident_id))) == (1, 1)


async def test_an_effect_of_an_earlier_resolution_is_requeued_by_its_number(
    connected: ConnectedService,
) -> None:
    incident_id = (await parked(connected)).incident_id
    await connected.incidents.reopen(incident_id, reason="it came back")
    await connected.incidents.resolve(incident_id, resolution_type=HUMAN)
    await ended(connected.incidents, incident_id, number=2)
    # Without a number the latest is meant, and that one is done.
    assert (await refused(retry(connected.incidents, incident_id))).reason == "SIDE_EFFECT_ENDED"
    await retry(connected.incidents, incident_id, number=1)
    await side_effect(connected.incidents, incident_id, WEBHOOK, "DONE", number=1)
    assert [post.content["resolution_number"] for post in connected.posts(incident_id)] == [1, 2, 1]


@pytest.mark.parametrize("effect", EFFECTS, ids=SideEffect.Effect.Name)
async def test_a_retry_of_a_done_effect_is_refused(connected: ConnectedService, effect: Number) -> None:
    incident_id = (await connected.incidents.resolved()).incident_id
    before = await ended(connected.incidents, incident_id)
    answer = await refused(retry(connected.incidents, incident_id, effect))
    assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SIDE_EFFECT_ENDED")
    assert answer.metadata == {"current_state": "DONE", "allowed_states": "PARKED"}
    assert answer.preconditions == ("is DONE, must be one of: PARKED",)
    assert await side_effects(connected.incidents, incident_id) == before


async def test_a_skipped_effect_has_its_reason_and_a_retry_is_refused(service: RunningService) -> None:
    # A service without external systems.
    async with incidents_at(service.address) as incidents:
        incident = await incidents.resolved()
        found = await ended(incidents, incident.incident_id)
        reasons = {
            NOTIFICATION: "INCIDENT_NOTIFY_URLS is not set",
            WEBHOOK: "INCIDENT_WEBHOOK_URL is not set",
        }
        for effect, reason in reasons.items():
            skipped = found[effect]
            assert (skipped.state, skipped.skip_reason) == (SideEffect.STATE_SKIPPED, reason)
            assert (skipped.last_error, skipped.attempts) == ("", 0)
            assert skipped.HasField("done_time")
            answer = await refused(retry(incidents, incident.incident_id, effect))
            assert (answer.code, answer.reason) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "SIDE_EFFECT_ENDED",
            )
            assert answer.metadata == {"current_state": "SKIPPED", "allowed_states": "PARKED"}
        assert {effect for effect in found if effect not in reasons} == {POSTMORTEM, KNOWLEDGE, DISPOSITION}
        assert await side_effects(incidents, incident.incident_id) == found


async def test_a_retry_for_an_unknown_incident_is_not_found(connected: ConnectedService) -> None:
    refusal = await refused(retry(connected.incidents, UNKNOWN_ID))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
    assert refusal.resource == ("awoooi.incident.v1.Incident", UNKNOWN_ID)


@pytest.mark.parametrize("number", [0, 1, 2**31 - 1], ids=["latest", "to come", "the last there is"])
async def test_a_retry_for_an_unresolved_incident_finds_no_effect(
    connected: ConnectedService, number: int
) -> None:
    incident_id = (await connected.incidents.opened()).incident_id
    refusal = await refused(retry(connected.incidents, incident_id, number=number))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SIDE_EFFECT_NOT_FOUND")
    assert refusal.resource == ("awoooi.incident.v1.Incident", incident_id)
