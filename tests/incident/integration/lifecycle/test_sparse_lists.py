"""Lists of what is rare in a long history: pages may be short, or empty, and all of it is found once and in order."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.approval.schemas import rows
from tests.callers import Incidents, incidents_at
from tests.histories import incident_history
from tests.services import healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Filled:
    """The service over a history."""

    incidents: Incidents
    url: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled() -> AsyncIterator[Filled]:
    async with (
        incident_history() as url,
        healthy_service("incident", url) as service,
        incidents_at(service.address) as incidents,
    ):
        yield Filled(incidents, url)


@pytest.mark.parametrize(
    ("criteria", "condition"),
    [
        (
            {"severities": ["INFO"], "labels": {"app": "app-3"}},
            "severity = 'INFO' AND labels ->> 'app' = 'app-3'",
        ),
        ({"labels": {"app": "nowhere"}}, "FALSE"),
        ({"states": ["INVESTIGATING"]}, "state = 'INVESTIGATING'"),
    ],
    ids=["rare", "none", "unresolved"],
)
@pytest.mark.parametrize(
    ("order", "columns"),
    [
        ("CREATE_TIME_ASC", "create_time, incident_id"),
        ("UPDATE_TIME_DESC", "update_time DESC, incident_id DESC"),
        ("LAST_PROGRESS_TIME_ASC", "last_progress_time, incident_id"),
    ],
)
async def test_every_match_is_on_one_page(
    filled: Filled, criteria: dict[str, Any], condition: str, order: Any, columns: str
) -> None:
    found = [each.incident_id async for each in filled.incidents.list(order=order, page_size=3, **criteria)]
    expected = f"SELECT incident_id FROM incidents WHERE {condition} ORDER BY {columns}"  # noqa: S608 - cases of this test
    assert [(each,) for each in found] == await rows(filled.url, expected)


async def test_a_page_without_a_match_says_where_the_next_one_begins(filled: Filled) -> None:
    page = await filled.incidents.list(labels={"app": "nowhere"}).page()
    assert (len(page.incidents), bool(page.next_page_token)) == (0, True)


async def test_events_of_a_rare_type_are_found_behind_thousands_of_others(filled: Filled) -> None:
    insert = """
        INSERT INTO incident_events (event_id, incident_id, type, actor, summary, resolution_number)
        SELECT 'long/' || number, incident_id, CASE WHEN number % 2500 = 0 THEN 'NOTE' ELSE 'DEDUPLICATED' END, '', '', 0
        FROM (SELECT incident_id FROM incidents LIMIT 1) AS one, generate_series(1, 5000) AS number
        RETURNING incident_id
    """
    incident_id = (await rows(filled.url, insert))[0][0]
    found = [each.event_id async for each in filled.incidents.list_events(incident_id, types=["NOTE"])]
    assert found == ["long/2500", "long/5000"]


async def test_dead_letters_of_a_rare_effect_are_found_behind_thousands_of_others(filled: Filled) -> None:
    insert = """
        INSERT INTO outbox (topic, dedup_key, payload, state)
        SELECT CASE WHEN number = 1 THEN 'effect.notification' ELSE 'effect.webhook' END, 'INC-20260507-A' || number || '/1',
            '{}', 'PARKED'
        FROM generate_series(1, 2500) AS number
    """
    await rows(filled.url, insert)
    listed = filled.incidents.list_side_effects(
        effects=["NOTIFICATION"], states=["PENDING", "PARKED"], page_size=10
    )
    assert [each.incident_id async for each in listed] == ["INC-20260507-A1"]
