"""Values at the limits of the contract: page sizes, and the longest texts."""

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.incident.incidents import HUMAN, new_id, opened, resolved, token

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Stub = IncidentServiceAsyncStub
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


async def test_the_page_size_is_fifty_by_default_and_at_most_a_thousand(stub: "Stub", rows: "Rows") -> None:
    incident_id, word = (await opened(stub)).incident_id, f"w{token()}"
    await many(rows, incident_id, word)

    async def sizes(page_size: int) -> list[int]:
        events = await stub.ListEvents(pb.ListEventsRequest(incident_id=incident_id, page_size=page_size))
        found = await stub.ListSideEffects(pb.ListSideEffectsRequest(page_size=page_size))
        known = await stub.SearchKnowledge(pb.SearchKnowledgeRequest(query=word, page_size=page_size))
        assert all(each.next_page_token for each in (events, found, known))
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
        "summary": "a\n\tb\x1b'; DROP TABLE incidents; -- %s :x {y} \\ 🔥 \u202eabc",
        "attributes": {"k": "a\nb"},
    },
}


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD)
async def test_values_at_the_limits_are_stored_unchanged(stub: "Stub", fields: dict[str, Any]) -> None:
    incident_id = (await opened(stub)).incident_id
    await stub.AddEvent(pb.AddEventRequest(incident_id=incident_id, **fields))
    stored = (await stub.ListEvents(pb.ListEventsRequest(incident_id=incident_id))).events[-1]
    for name, value in fields.items():
        assert getattr(stored, name) == value


async def test_the_longest_reason_and_action_are_stored_unchanged(stub: "Stub") -> None:
    incident_id = (await resolved(stub)).incident_id
    reason, action = "ż" * 4096, "☂" * 1024
    await stub.Reopen(pb.ReopenRequest(incident_id=incident_id, reason=reason, request_id="~" * 128))
    await stub.Resolve(pb.ResolveRequest(incident_id=incident_id, resolution_type=HUMAN, action=action))
    types = [incident_pb2.IncidentEvent.TYPE_REOPENED, incident_pb2.IncidentEvent.TYPE_RESOLVED]
    events = (await stub.ListEvents(pb.ListEventsRequest(incident_id=incident_id, types=types))).events
    assert (events[1].summary, events[2].attributes["action"]) == (reason, action)
