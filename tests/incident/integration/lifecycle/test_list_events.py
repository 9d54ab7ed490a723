"""ListEvents: pages of a timeline, and their tokens."""

from typing import TYPE_CHECKING, Any

import grpc

from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents
from tests.incident.incidents import token
from tests.rpc_errors import refused

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]


async def test_pages_of_a_timeline_are_in_its_order(incidents: Incidents) -> None:
    fingerprint = token()
    incident = await incidents.opened(fingerprint=fingerprint)
    for number in range(6):
        await incidents.report(title=f"report {number}", fingerprint=fingerprint)
    summaries: list[str] = []
    sequences: list[int] = []
    async for page in incidents.list_events(incident.incident_id, page_size=3).pages():
        assert len(page.events) <= 3
        summaries += [event.summary for event in page.events]
        sequences += [event.sequence for event in page.events]
    assert summaries == [incident.title, *(f"report {number}" for number in range(6))]
    assert sequences == sorted(set(sequences))


async def test_a_timeline_is_filtered_by_type_and_its_page_tokens_are_bound_to_the_types(
    incidents: Incidents,
) -> None:
    fingerprint = token()
    incident = await incidents.opened(fingerprint=fingerprint)
    other = await incidents.opened()
    for _ in range(2):
        await incidents.report(fingerprint=fingerprint)
    kind = incident_pb2.IncidentEvent.TYPE_DEDUPLICATED
    listing = incidents.list_events(incident.incident_id, types=[kind], page_size=1)
    first, second = [page async for page in listing.pages()]
    assert [event.type for event in first.events] == [kind]
    assert [event.type for event in second.events] == [kind]
    others: list[dict[str, Any]] = [{"types": []}, {"incident_id": other.incident_id}]
    for fields in others:
        wrong = {
            "incident_id": incident.incident_id,
            "types": [kind],
            "page_token": first.next_page_token,
        } | fields
        refusal = await refused(incidents.list_events(**wrong).page())
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))
