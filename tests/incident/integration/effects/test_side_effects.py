"""ListSideEffects: the side effects of a resolution, their criteria and pages."""

from itertools import pairwise
from typing import Any

import grpc
import pytest

from tests.incident.incidents import HUMAN, UNKNOWN_ID
from tests.incident.integration.effects.dead_letters import parked, retry
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


async def test_a_done_effect_has_its_time_and_its_number_of_attempts(connected: ConnectedService) -> None:
    incident = await connected.incidents.resolved()
    found = await ended(connected.incidents, incident.incident_id)
    assert set(found) == set(EFFECTS)
    for effect, each in found.items():
        name = SideEffect.Effect.Name(effect).removeprefix("EFFECT_").lower()
        assert each == SideEffect(
            incident_id=incident.incident_id,
            effect=effect,
            resolution_number=1,
            state=SideEffect.STATE_DONE,
            attempts=1,
            create_time=incident.resolve_time,
            done_time=each.done_time,
            delivery_id=f"{incident.incident_id}/{name}/1",
        )
        assert each.done_time.ToDatetime() > each.create_time.ToDatetime()


async def test_an_unknown_incident_is_not_found_and_an_unresolved_one_has_no_side_effects(
    connected: ConnectedService,
) -> None:
    answer = await refused(connected.incidents.list_side_effects(incident_id=UNKNOWN_ID).page())
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
    unresolved = await connected.incidents.opened()
    assert await side_effects(connected.incidents, unresolved.incident_id) == {}


async def test_every_criterion_filters_and_criteria_are_combined(connected: ConnectedService) -> None:
    refused_effect = await parked(connected)
    incident_id = refused_effect.incident_id

    async def found(**fields: Any) -> set[Number]:
        listing = connected.incidents.list_side_effects(incident_id=incident_id, **fields)
        return {each.effect async for each in listing}

    assert await found() == set(EFFECTS)
    assert await found(states=[SideEffect.STATE_PARKED]) == {WEBHOOK}
    assert await found(states=[SideEffect.STATE_DONE]) == set(EFFECTS) - {WEBHOOK}
    assert await found(states=[SideEffect.STATE_DONE, SideEffect.STATE_PARKED]) == set(EFFECTS)
    assert await found(effects=[KNOWLEDGE, WEBHOOK]) == {KNOWLEDGE, WEBHOOK}
    assert await found(effects=[KNOWLEDGE], states=[SideEffect.STATE_PARKED]) == set()
    await retry(connected.incidents, incident_id)
    await side_effect(connected.incidents, incident_id, WEBHOOK, "DONE")


@pytest.mark.parametrize("of_one", [True, False], ids=["of an incident", "of all"])
async def test_pages_have_every_effect_once_newest_first(connected: ConnectedService, of_one: bool) -> None:
    incident = await connected.incidents.resolved()
    for number in (1, 2):
        await ended(connected.incidents, incident.incident_id, number=number)
        await connected.incidents.reopen(incident.incident_id, reason="again")
        await connected.incidents.resolve(incident.incident_id, resolution_type=HUMAN)
    await ended(connected.incidents, incident.incident_id, number=3)

    incident_id = incident.incident_id if of_one else ""
    found: list[SideEffect] = []
    async for page in connected.incidents.list_side_effects(incident_id=incident_id, page_size=4).pages():
        assert len(page.side_effects) <= 4
        found += page.side_effects
        if not of_one and page.next_page_token:
            # Effects enqueued meanwhile are newer than every following page.
            await connected.incidents.resolved()
    mine = [each for each in found if each.incident_id == incident.incident_id]
    assert [each.resolution_number for each in mine] == [3] * 5 + [2] * 5 + [1] * 5
    assert len({each.delivery_id for each in found}) == len(found)
    for newer, older in pairwise(found):
        assert newer.create_time.ToNanoseconds() >= older.create_time.ToNanoseconds()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"incident_id": ""}, id="no incident"),
        pytest.param({"states": [SideEffect.STATE_DONE]}, id="states"),
        pytest.param({"effects": [WEBHOOK]}, id="effects"),
    ],
)
async def test_a_page_token_is_bound_to_its_filter(
    connected: ConnectedService, other: dict[str, Any]
) -> None:
    incident = await connected.incidents.resolved()
    fields: dict[str, Any] = {"incident_id": incident.incident_id, "page_size": 1}
    first = await connected.incidents.list_side_effects(**fields).page()
    good: dict[str, Any] = {**fields | {"page_size": 2}, "page_token": first.next_page_token}
    assert len((await connected.incidents.list_side_effects(**good).page()).side_effects) == 2
    request: dict[str, Any] = {**fields | other, "page_token": first.next_page_token}
    answer = await refused(connected.incidents.list_side_effects(**request).page())
    assert (answer.code, answer.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))
