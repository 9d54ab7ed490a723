"""ListEvents: pages of a timeline, and their tokens."""

from typing import TYPE_CHECKING, Any

import grpc

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.incident.incidents import (
    create_request,
    opened,
    token,
)
from tests.rpc_errors import refused

if TYPE_CHECKING:
    import asyncpg

    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Stub = IncidentServiceAsyncStub
    Rows = asyncpg.Connection[asyncpg.Record]


async def test_pages_of_a_timeline_are_in_its_order(stub: "Stub") -> None:
    fingerprint = token()
    incident = await opened(stub, fingerprint=fingerprint)
    for number in range(6):
        await stub.Create(create_request(title=f"report {number}", fingerprint=fingerprint))
    asked = pb.ListEventsRequest(incident_id=incident.incident_id, page_size=3)
    summaries: list[str] = []
    sequences: list[int] = []
    while True:
        answer = await stub.ListEvents(asked)
        assert len(answer.events) <= 3
        summaries += [event.summary for event in answer.events]
        sequences += [event.sequence for event in answer.events]
        if not answer.next_page_token:
            break
        asked.page_token = answer.next_page_token
    assert summaries == [incident.title, *(f"report {number}" for number in range(6))]
    assert sequences == sorted(set(sequences))


async def test_a_timeline_is_filtered_by_type_and_its_page_tokens_are_bound_to_the_types(
    stub: "Stub",
) -> None:
    fingerprint = token()
    incident = await opened(stub, fingerprint=fingerprint)
    other = await opened(stub)
    for _ in range(2):
        await stub.Create(create_request(fingerprint=fingerprint))
    kind = incident_pb2.IncidentEvent.TYPE_DEDUPLICATED
    asked = pb.ListEventsRequest(incident_id=incident.incident_id, types=[kind], page_size=1)
    first = await stub.ListEvents(asked)
    assert [event.type for event in first.events] == [kind]
    asked.page_token = first.next_page_token
    second = await stub.ListEvents(asked)
    assert [event.type for event in second.events] == [kind]
    assert not second.next_page_token
    others: list[dict[str, Any]] = [{"types": []}, {"incident_id": other.incident_id}]
    for fields in others:
        wrong = {
            "incident_id": incident.incident_id,
            "types": [kind],
            "page_token": first.next_page_token,
        } | fields
        refusal = await refused(stub.ListEvents(pb.ListEventsRequest(**wrong)))
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))
