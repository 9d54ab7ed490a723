"""RetrySideEffect: a dead letter is re-queued, once, and only a dead letter."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.incident.incidents import (
    HUMAN,
    UNKNOWN_ID,
    event_types,
    incident_stub,
    opened,
    resolved,
)
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
from tests.incident.stats import FULL, read_stats
from tests.receiver import Held, status
from tests.rpc_errors import refused
from tests.services import RunningService

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Stub = IncidentServiceAsyncStub

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def counted(connected: ConnectedService, state: "SideEffect.State.ValueType") -> int:
    """The number of webhooks in a state, from the stats."""
    found = (await read_stats(connected.service.address)).side_effects.side_effects
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
    narrow = pb.ListSideEffectsRequest(states=[SideEffect.STATE_PARKED], effects=[WEBHOOK])
    assert list((await connected.stub.ListSideEffects(narrow)).side_effects) == [refused_effect]
    assert await counted(connected, SideEffect.STATE_PARKED) == 1
    assert list((await read_stats(connected.service.address, FULL)).side_effects.waiting) == [refused_effect]

    back = (await connected.stub.RetrySideEffect(retry(incident_id))).side_effect
    assert back.state == SideEffect.STATE_PENDING
    done = await side_effect(connected.stub, incident_id, WEBHOOK, "DONE")
    assert (done.attempts, done.delivery_id) == (2, refused_effect.delivery_id)
    assert len(connected.posts(incident_id)) == 2
    assert await counted(connected, SideEffect.STATE_PARKED) == 0
    assert not (await read_stats(connected.service.address, FULL)).side_effects.waiting
    types = await event_types(connected.stub, incident_id)
    assert types.count("EFFECT_PARKED") == 1
    assert types.count("EFFECT_DONE") == len(EFFECTS)


async def test_a_requeued_effect_that_is_refused_again_is_parked_again(connected: ConnectedService) -> None:
    incident_id = (await parked(connected)).incident_id
    connected.webhook.answers.append(status(410))
    await connected.stub.RetrySideEffect(retry(incident_id))
    found = (await ended(connected.stub, incident_id))[WEBHOOK]
    assert (found.state, found.attempts) == (SideEffect.STATE_PARKED, 2)
    assert found.last_error == "the receiver answered 410"
    assert (await event_types(connected.stub, incident_id)).count("EFFECT_PARKED") == 2
    await connected.stub.RetrySideEffect(retry(incident_id))
    await side_effect(connected.stub, incident_id, WEBHOOK, "DONE")


async def test_concurrent_retries_of_an_effect_requeue_it_once_and_all_succeed(
    connected: ConnectedService,
) -> None:
    incident_id = (await parked(connected)).incident_id
    held = Held(status(204))
    connected.webhook.answers.append(held)
    answers = await asyncio.gather(*(connected.stub.RetrySideEffect(retry(incident_id)) for _ in range(20)))
    assert {answer.side_effect.state for answer in answers} == {SideEffect.STATE_PENDING}
    assert await counted(connected, SideEffect.STATE_PENDING) == 1
    held.release.set()
    done = await side_effect(connected.stub, incident_id, WEBHOOK, "DONE")
    assert (done.attempts, len(connected.posts(incident_id))) == (2, 2)


async def test_a_retry_of_a_pending_effect_changes_nothing(connected: ConnectedService) -> None:
    held = Held(status(204))
    connected.webhook.answers.append(held)
    incident_id = (await resolved(connected.stub)).incident_id
    before = await side_effect(connected.stub, incident_id, WEBHOOK, "PENDING")
    assert before.HasField("next_attempt_time")
    answer = await connected.stub.RetrySideEffect(retry(incident_id))
    assert answer.side_effect == (await side_effects(connected.stub, incident_id))[WEBHOOK]
    held.release.set()
    done = await side_effect(connected.stub, incident_id, WEBHOOK, "DONE")
    assert (done.attempts, len(connected.posts(incident_id))) == (1, 1)


async def test_an_effect_of_an_earlier_resolution_is_requeued_by_its_number(
    connected: ConnectedService,
) -> None:
    incident_id = (await parked(connected)).incident_id
    await connected.stub.Reopen(pb.ReopenRequest(incident_id=incident_id, reason="it came back"))
    await connected.stub.Resolve(pb.ResolveRequest(incident_id=incident_id, resolution_type=HUMAN))
    await ended(connected.stub, incident_id, number=2)
    # Without a number the latest is meant, and that one is done.
    assert (await refused(connected.stub.RetrySideEffect(retry(incident_id)))).reason == "SIDE_EFFECT_ENDED"
    await connected.stub.RetrySideEffect(retry(incident_id, number=1))
    await side_effect(connected.stub, incident_id, WEBHOOK, "DONE", number=1)
    assert [post.content["resolution_number"] for post in connected.posts(incident_id)] == [1, 2, 1]


@pytest.mark.parametrize("effect", EFFECTS, ids=SideEffect.Effect.Name)
async def test_a_retry_of_a_done_effect_is_refused(connected: ConnectedService, effect: Number) -> None:
    incident_id = (await resolved(connected.stub)).incident_id
    before = await ended(connected.stub, incident_id)
    answer = await refused(connected.stub.RetrySideEffect(retry(incident_id, effect)))
    assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SIDE_EFFECT_ENDED")
    assert answer.metadata == {"current_state": "DONE", "allowed_states": "PARKED"}
    assert answer.preconditions == ("is DONE, must be one of: PARKED",)
    assert await side_effects(connected.stub, incident_id) == before


async def test_a_skipped_effect_has_its_reason_and_a_retry_is_refused(service: RunningService) -> None:
    # A service without external systems.
    async with incident_stub(service.address) as stub:
        incident = await resolved(stub)
        found = await ended(stub, incident.incident_id)
        reasons = {
            NOTIFICATION: "INCIDENT_NOTIFY_URLS is not set",
            WEBHOOK: "INCIDENT_WEBHOOK_URL is not set",
        }
        for effect, reason in reasons.items():
            skipped = found[effect]
            assert (skipped.state, skipped.skip_reason) == (SideEffect.STATE_SKIPPED, reason)
            assert (skipped.last_error, skipped.attempts) == ("", 0)
            assert skipped.HasField("done_time")
            answer = await refused(stub.RetrySideEffect(retry(incident.incident_id, effect)))
            assert (answer.code, answer.reason) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "SIDE_EFFECT_ENDED",
            )
            assert answer.metadata == {"current_state": "SKIPPED", "allowed_states": "PARKED"}
        assert {effect for effect in found if effect not in reasons} == {POSTMORTEM, KNOWLEDGE, DISPOSITION}
        assert await side_effects(stub, incident.incident_id) == found


UNKNOWN: dict[str, tuple[Callable[[str], Any], str]] = {
    "an unknown incident": (lambda _: retry(UNKNOWN_ID), "INCIDENT_NOT_FOUND"),
    "an unresolved incident": (retry, "SIDE_EFFECT_NOT_FOUND"),
    "a resolution to come": (lambda incident_id: retry(incident_id, number=1), "SIDE_EFFECT_NOT_FOUND"),
    "the last number there is": (
        lambda incident_id: retry(incident_id, number=2**31 - 1),
        "SIDE_EFFECT_NOT_FOUND",
    ),
}


@pytest.mark.parametrize(("request_for", "reason"), UNKNOWN.values(), ids=UNKNOWN)
async def test_unknown_incidents_and_effects_are_not_found(
    connected: ConnectedService, request_for: Callable[[str], pb.RetrySideEffectRequest], reason: str
) -> None:
    request = request_for((await opened(connected.stub)).incident_id)
    answer = await refused(connected.stub.RetrySideEffect(request))
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, reason)
    assert answer.resource == ("awoooi.incident.v1.Incident", request.incident_id)
