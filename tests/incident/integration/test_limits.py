"""Values at the limits of the contract: page sizes, and the longest texts."""

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents
from tests.incident.incidents import HUMAN, new_id, token

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]


async def many(rows: "Rows", incident_id: str, word: str) -> None:
    """A thousand and five events, side effects and entries of knowledge."""
    number = 1005
    await rows.execute(
        """
        INSERT INTO incident_events (event_id, incident_id, type, actor, summary, resolution_number)
        SELECT $1 || '/' || number, $1, 'NOTE', 'tester', '', 0 FROM generate_series(1, $2::int) AS number
        """,
        incident_id,
        number,
    )
    await rows.execute(
        """
        INSERT INTO outbox (topic, dedup_key, payload, state, done_time)
        SELECT 'effect.webhook', $1 || '/' || number,
            jsonb_build_object('incident_id', $1::text, 'resolution_number', number, 'resolution_type', 'HUMAN',
                'resolution_seconds', 1), 'DONE', now()
        FROM generate_series(1, $2::int) AS number
        """,
        incident_id,
        number,
    )
    await rows.execute(
        """
        INSERT INTO knowledge (knowledge_id, symptom_key, resolution_type, action, incident_id, symptoms, resolution,
            use_count, success_count, resolution_seconds_sum)
        SELECT $1 || number, '', 'HUMAN', '', '', $1, '', 1, 1, 1 FROM generate_series(1, $2::int) AS number
        """,
        word,
        number,
    )


async def test_the_page_size_is_fifty_by_default_and_at_most_a_thousand(
    incidents: Incidents, rows: "Rows"
) -> None:
    incident_id, word = (await incidents.opened()).incident_id, f"w{token()}"
    await many(rows, incident_id, word)

    async def sizes(page_size: int) -> list[int]:
        events = await incidents.list_events(incident_id, page_size=page_size).page()
        found = await incidents.list_side_effects(page_size=page_size).page()
        known = await incidents.search_knowledge(word, page_size=page_size).page()
        assert all(each.next_page_token for each in (events, found))
        # A search ranks a thousand entries at most.
        assert bool(known.next_page_token) == (page_size in (0, 1))
        return [len(events.events), len(found.side_effects), len(known.matches)]

    assert await sizes(0) == [50] * 3
    assert await sizes(1) == [1] * 3
    assert await sizes(1001) == [1000] * 3
    assert await sizes(2**31 - 1) == [1000] * 3


GOOD: dict[str, Any] = {
    "the longest event": {
        "event_id": "~" * 100 + new_id(),
        "type": incident_pb2.IncidentEvent.TYPE_EXECUTED,
        "summary": "x" * 8192,
        "attributes": {f"{number:02}" + "k" * 254: "ż" * 256 for number in range(64)},
    },
    "line breaks and what a query must not be made of": {
        "event_id": f"';--{new_id()}",
        "type": incident_pb2.IncidentEvent.TYPE_NOTE,
        "summary": "a\n\tb'; DROP TABLE incidents; -- %s :x {y} \\ 🔥 abc",
        "attributes": {"k": "a\nb"},
    },
}


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD)
async def test_values_at_the_limits_are_stored_unchanged(
    incidents: Incidents, fields: dict[str, Any]
) -> None:
    incident_id = (await incidents.opened()).incident_id
    await incidents.add_event(incident_id, **fields)
    stored = (await incidents.list_events(incident_id).page()).events[-1]
    for name, value in fields.items():
        assert getattr(stored, name) == value


async def test_the_longest_reason_and_action_are_stored_unchanged(incidents: Incidents) -> None:
    incident_id = (await incidents.resolved()).incident_id
    reason, action = "ż" * 4096, "☂" * 1024
    await incidents.reopen(incident_id, reason=reason, request_id="~" * 128)
    await incidents.resolve(incident_id, resolution_type=HUMAN, action=action)
    types = [incident_pb2.IncidentEvent.TYPE_REOPENED, incident_pb2.IncidentEvent.TYPE_RESOLVED]
    events = (await incidents.list_events(incident_id, types=types).page()).events
    assert (events[1].summary, events[2].attributes["action"]) == (reason, action)
