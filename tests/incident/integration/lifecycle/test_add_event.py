"""AddEvent: idempotent, in commit order, and progress of the incident for some types."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.incident.incidents import (
    UNKNOWN_ID,
    event_types,
    incident_stub,
    opened,
    resolved,
    token,
)
from tests.rpc_errors import refused
from tests.services import RunningService

if TYPE_CHECKING:
    import asyncpg

    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Stub = IncidentServiceAsyncStub
    Rows = asyncpg.Connection[asyncpg.Record]

Type = incident_pb2.IncidentEvent
# The types that callers may add, and whether each is progress of an unresolved incident.
ADDABLE = {
    "PROPOSED": True,
    "APPROVED": True,
    "REJECTED": False,
    "EXPIRED": False,
    "CANCELLED": False,
    "EXECUTED": True,
    "EXECUTION_FAILED": False,
    "NOTE": False,
}


def event(incident_id: str, **fields: Any) -> pb.AddEventRequest:
    valid: dict[str, Any] = {
        "event_id": token(),
        "incident_id": incident_id,
        "type": Type.TYPE_NOTE,
        "summary": "looked",
    }
    return pb.AddEventRequest(**(valid | fields))


async def timeline(stub: "Stub", incident_id: str) -> list[incident_pb2.IncidentEvent]:
    return list((await stub.ListEvents(pb.ListEventsRequest(incident_id=incident_id))).events)


async def current(stub: "Stub", incident_id: str) -> incident_pb2.Incident:
    return (await stub.Get(pb.GetRequest(incident_id=incident_id))).incident


async def test_an_event_is_on_the_timeline_with_its_content_and_its_actor(
    service: RunningService, stub: "Stub"
) -> None:
    incident = await opened(stub)
    happened = Timestamp(seconds=1_700_000_000, nanos=123_456_000)
    request = event(
        incident.incident_id,
        type=Type.TYPE_PROPOSED,
        summary="RESTART deployment/api\n☂",
        event_time=happened,
        attributes={"approval_id": "APR-20260507-1A2B3C", "zażółć": ""},
    )
    async with incident_stub(service.address, actor="alice") as alice:
        added = (await alice.AddEvent(request)).event
    assert (await timeline(stub, incident.incident_id))[-1] == added
    assert added == incident_pb2.IncidentEvent(
        event_id=request.event_id,
        incident_id=incident.incident_id,
        type=Type.TYPE_PROPOSED,
        actor="alice",
        event_time=happened,
        summary=request.summary,
        attributes=request.attributes,
        resolution_number=0,
        sequence=added.sequence,
    )


async def test_an_event_without_a_time_happened_now(stub: "Stub") -> None:
    incident = await opened(stub)
    added = (await stub.AddEvent(event(incident.incident_id))).event
    opening = (await timeline(stub, incident.incident_id))[0]
    assert opening.event_time.ToDatetime() < added.event_time.ToDatetime()


@pytest.mark.parametrize(("name", "progress"), ADDABLE.items(), ids=ADDABLE)
async def test_only_progress_events_set_the_time_of_last_progress(
    stub: "Stub", name: str, progress: bool
) -> None:
    before = await opened(stub)
    await stub.AddEvent(event(before.incident_id, type=Type.Type.Value(f"TYPE_{name}")))
    after = await current(stub, before.incident_id)
    if progress:
        assert after.last_progress_time.ToDatetime() > before.last_progress_time.ToDatetime()
        assert after.update_time == after.last_progress_time
        assert after.etag != before.etag
        after.ClearField("last_progress_time")
        before.ClearField("last_progress_time")
        for each in (before, after):
            each.ClearField("update_time")
            each.ClearField("etag")
    assert after == before


@pytest.mark.parametrize(("name", "frees"), ADDABLE.items(), ids=ADDABLE)
async def test_an_incident_with_new_progress_is_not_stuck(
    stub: "Stub", rows: "Rows", name: str, frees: bool
) -> None:
    labels = {"test": token()}
    incident = await opened(stub, labels=labels)
    await rows.execute(
        "UPDATE incidents SET last_progress_time = now() - interval '1 day' WHERE incident_id = $1",
        incident.incident_id,
    )
    await stub.AddEvent(event(incident.incident_id, type=Type.Type.Value(f"TYPE_{name}")))
    stuck = (await stub.List(pb.ListRequest(labels=labels, stuck=True))).incidents
    assert [each.incident_id for each in stuck] == ([] if frees else [incident.incident_id])


@pytest.mark.parametrize("name", ADDABLE)
async def test_events_leave_a_resolved_incident_unchanged(stub: "Stub", name: str) -> None:
    incident = await resolved(stub)
    added = (await stub.AddEvent(event(incident.incident_id, type=Type.Type.Value(f"TYPE_{name}")))).event
    assert added.resolution_number == 1
    assert await current(stub, incident.incident_id) == incident
    assert name in await event_types(stub, incident.incident_id)


async def test_add_event_is_idempotent_by_event_id_and_a_repetition_writes_nothing(
    stub: "Stub", rows: "Rows"
) -> None:
    incident = await opened(stub)
    request = event(incident.incident_id, type=Type.TYPE_EXECUTED, attributes={"a": "1", "b": "2"})
    first = await stub.AddEvent(request)
    before = await current(stub, incident.incident_id)
    assert await stub.AddEvent(request) == first
    request.event_time.CopyFrom(first.event.event_time)
    assert await stub.AddEvent(request) == first
    assert await current(stub, incident.incident_id) == before
    assert await written(rows, request.event_id) == 1


async def test_concurrent_calls_with_the_same_event_add_it_once(stub: "Stub", rows: "Rows") -> None:
    incident = await opened(stub)
    request = event(incident.incident_id, type=Type.TYPE_PROPOSED)
    answers = await asyncio.gather(*(stub.AddEvent(request) for _ in range(30)))
    assert len({answer.event.sequence for answer in answers}) == 1
    assert await written(rows, request.event_id) == 1
    assert await event_types(stub, incident.incident_id) == ["OPENED", "PROPOSED"]


async def test_add_event_is_idempotent_also_after_the_incident_was_resolved(stub: "Stub") -> None:
    incident = await opened(stub)
    request = event(incident.incident_id)
    first = await stub.AddEvent(request)
    await stub.Resolve(
        pb.ResolveRequest(
            incident_id=incident.incident_id, resolution_type=incident_pb2.RESOLUTION_TYPE_HUMAN
        )
    )
    assert await stub.AddEvent(request) == first


OTHER: dict[str, dict[str, Any]] = {
    "type": {"type": Type.TYPE_EXECUTED},
    "summary": {"summary": "another"},
    "attributes": {"attributes": {"a": "another"}},
    "event_time": {"event_time": Timestamp(seconds=1)},
}


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
async def test_an_event_id_reused_with_other_content_is_refused(
    stub: "Stub", rows: "Rows", other: dict[str, Any]
) -> None:
    incident = await opened(stub)
    content: dict[str, Any] = {"event_id": token(), "attributes": {"a": "1"}}
    await stub.AddEvent(event(incident.incident_id, **content))
    refusal = await refused(stub.AddEvent(event(incident.incident_id, **(content | other))))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EVENT_ID_TAKEN")
    assert await written(rows, content["event_id"]) == 1


async def test_an_event_id_reused_for_another_incident_or_by_another_actor_is_refused(
    service: RunningService, stub: "Stub"
) -> None:
    incident, another = await opened(stub), await opened(stub)
    event_id = token()
    await stub.AddEvent(event(incident.incident_id, event_id=event_id))
    refusal = await refused(stub.AddEvent(event(another.incident_id, event_id=event_id)))
    assert refusal.reason == "EVENT_ID_TAKEN"
    async with incident_stub(service.address, actor="mallory") as mallory:
        refusal = await refused(mallory.AddEvent(event(incident.incident_id, event_id=event_id)))
    assert refusal.reason == "EVENT_ID_TAKEN"
    assert await event_types(stub, another.incident_id) == ["OPENED"]


async def test_concurrent_calls_with_one_event_id_for_two_incidents_add_one_event(
    stub: "Stub", rows: "Rows"
) -> None:
    incidents = [(await opened(stub)).incident_id for _ in range(10)]
    event_id = token()
    outcomes = await asyncio.gather(
        *(stub.AddEvent(event(each, event_id=event_id)) for each in incidents), return_exceptions=True
    )
    assert sum(isinstance(outcome, pb.AddEventResponse) for outcome in outcomes) == 1
    codes = {outcome.code() for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)}
    assert codes == {grpc.StatusCode.ALREADY_EXISTS}
    assert await written(rows, event_id) == 1


async def test_an_unknown_incident_has_no_timeline(stub: "Stub", rows: "Rows") -> None:
    request = event(UNKNOWN_ID)
    refusal = await refused(stub.AddEvent(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
    assert await written(rows, request.event_id) == 0


async def test_a_timeline_is_in_commit_order_not_in_the_order_of_event_times(stub: "Stub") -> None:
    incident = await opened(stub)
    ids = [token() for _ in range(3)]
    for event_id, seconds in zip(ids, (3000, 1000, 2000), strict=True):
        request = event(incident.incident_id, event_id=event_id, event_time=Timestamp(seconds=seconds))
        await stub.AddEvent(request)
    found = await timeline(stub, incident.incident_id)
    assert [each.event_id for each in found[1:]] == ids
    assert found[1].event_time.ToDatetime(UTC) == datetime.fromtimestamp(3000, UTC)


async def test_pages_of_a_timeline_under_concurrent_writes_have_every_event_once_in_order(
    stub: "Stub",
) -> None:
    incident_id = (await opened(stub)).incident_id
    early = [token() for _ in range(20)]
    await asyncio.gather(*(stub.AddEvent(event(incident_id, event_id=each)) for each in early))

    request = pb.ListEventsRequest(incident_id=incident_id, page_size=3)
    found: list[incident_pb2.IncidentEvent] = []
    late: list[str] = []
    while True:
        answer = await stub.ListEvents(request)
        assert len(answer.events) <= 3
        found += answer.events
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
        if len(late) < 4:
            late.append(token())
            await stub.AddEvent(event(incident_id, event_id=late[-1]))
    assert [each.type for each in found] == [Type.TYPE_OPENED] + [Type.TYPE_NOTE] * 24
    assert sorted(each.event_id for each in found[1:21]) == sorted(early)
    assert [each.event_id for each in found[21:]] == late
    sequences = [each.sequence for each in found]
    assert sequences == sorted(set(sequences))


async def written(rows: "Rows", event_id: str) -> int:
    """How many rows of an event there are."""
    count: int = await rows.fetchval("SELECT count(*) FROM incident_events WHERE event_id = $1", event_id)
    return count
