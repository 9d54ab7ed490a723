"""Resolve with `approval_events`: the timeline has what the approval did before the resolution, once."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.rpc.timestamps import to_timestamp
from tests.callers import Incidents
from tests.incident.incidents import HUMAN, NO_ACTION, new_id
from tests.rpc_errors import read_status, refused

SERVICE = "service:approval"
TYPES = ("PROPOSED", "APPROVED", "EXECUTED")
WHOLE = ["OPENED", *TYPES, "RESOLVED"]
START = datetime(2026, 5, 7, 12, tzinfo=UTC)


def entries(approval_id: str) -> Sequence[pb.ApprovalEvent]:
    """What an approval did, as the approval service sends it: a second apart."""
    return [
        pb.ApprovalEvent(
            event_id=f"{approval_id}/{kind.lower()}/{number}",
            type=incident_pb2.IncidentEvent.Type.Value(f"TYPE_{kind}"),
            event_time=to_timestamp(START + timedelta(seconds=number)),
            summary="NO_ACTION: observe first",
            attributes={"approval_id": approval_id},
        )
        for number, kind in enumerate(TYPES)
    ]


async def add(incidents: Incidents, incident_id: str, entry: pb.ApprovalEvent, **changes: Any) -> None:
    """Deliver an entry by itself."""
    content: dict[str, Any] = {
        "event_id": entry.event_id,
        "type": entry.type,
        "event_time": entry.event_time,
        "summary": entry.summary,
        "attributes": entry.attributes,
        "actor": SERVICE,
    }
    await incidents.add_event(incident_id, **(content | changes))


async def resolve(incidents: Incidents, incident_id: str, approval_id: str) -> pb.ResolveResponse:
    return await incidents.resolve(
        incident_id,
        resolution_type=NO_ACTION,
        approval_id=approval_id,
        approval_events=entries(approval_id),
        actor=SERVICE,
    )


async def whole(incidents: Incidents, incident_id: str) -> Sequence[incident_pb2.IncidentEvent]:
    """The timeline without the entries of side effects."""
    return [event for event in await incidents.events(incident_id) if event.actor != "service:incident"]


def types(events: Sequence[incident_pb2.IncidentEvent]) -> list[str]:
    return [incident_pb2.IncidentEvent.Type.Name(event.type).removeprefix("TYPE_") for event in events]


def new_approval() -> str:
    return new_id().replace("INC", "APR")


async def test_the_entries_are_written_before_the_resolution_and_delivered_again_change_nothing(
    incidents: Incidents,
) -> None:
    incident_id, approval_id = await incidents.opened_id(), new_approval()
    await resolve(incidents, incident_id, approval_id)
    events = await whole(incidents, incident_id)
    assert types(events) == WHOLE
    for event, entry in zip(events[1:4], entries(approval_id), strict=True):
        assert (event.event_id, event.event_time, event.summary, event.attributes) == (
            entry.event_id,
            entry.event_time,
            entry.summary,
            entry.attributes,
        )
        assert (event.actor, event.resolution_number) == (SERVICE, 0)
    for entry in entries(approval_id):
        await add(incidents, incident_id, entry)
    assert await whole(incidents, incident_id) == events


@pytest.mark.parametrize("known", [("PROPOSED",), ("EXECUTED", "PROPOSED"), TYPES], ids=len)
async def test_entries_that_were_delivered_before_are_left_out(
    incidents: Incidents, known: Sequence[str]
) -> None:
    incident_id, approval_id = await incidents.opened_id(), new_approval()
    for kind in known:
        await add(incidents, incident_id, entries(approval_id)[TYPES.index(kind)])
    await resolve(incidents, incident_id, approval_id)
    events = types(await whole(incidents, incident_id))
    assert sorted(events[1:-1]) == sorted(TYPES)
    assert (events[0], events[-1]) == ("OPENED", "RESOLVED")


async def test_entries_that_are_known_under_another_id_are_left_out(
    incidents: Incidents,
) -> None:
    incident_id, approval_id = await incidents.opened_id(), new_approval()
    proposed, approved, executed = entries(approval_id)
    # As an import writes one; and as a version without event times delivered another.
    await add(incidents, incident_id, proposed, event_id=f"{approval_id}/imported")
    await add(incidents, incident_id, approved, event_id=f"{approval_id}/1/approved", event_time=None)
    # Of another approval, and of another time: neither is the same.
    await add(
        incidents,
        incident_id,
        executed,
        event_id=f"{new_approval()}/executed/2",
        attributes={"approval_id": new_approval()},
    )
    await resolve(incidents, incident_id, approval_id)
    events = await whole(incidents, incident_id)
    assert types(events) == ["OPENED", "PROPOSED", "APPROVED", "EXECUTED", "EXECUTED", "RESOLVED"]
    assert events[4].event_id == executed.event_id


async def test_concurrent_deliveries_and_resolves_write_each_entry_once(incidents: Incidents) -> None:
    for _ in range(10):
        incident_id, approval_id = await incidents.opened_id(), new_approval()
        await asyncio.gather(
            *(add(incidents, incident_id, entry) for entry in entries(approval_id)),
            *(resolve(incidents, incident_id, approval_id) for _ in range(3)),
        )
        events = await whole(incidents, incident_id)
        assert sorted(types(events)) == sorted(WHOLE)
        assert types(events)[-1] == "RESOLVED"
        sequences = [event.sequence for event in events]
        assert sequences == sorted(set(sequences))


async def test_texts_are_normalized_as_those_of_added_events(incidents: Incidents) -> None:
    incident_id, approval_id = await incidents.opened_id(), new_approval()
    entry = entries(approval_id)[0]
    entry.summary = "seen\x1b[31m\r\nagain"
    entry.attributes["reason"] = "a\x07b"
    await incidents.resolve(
        incident_id,
        resolution_type=NO_ACTION,
        approval_id=approval_id,
        approval_events=[entry],
        actor=SERVICE,
    )
    event = (await whole(incidents, incident_id))[1]
    assert "\x1b" not in event.summary
    await add(incidents, incident_id, entry)
    assert (await whole(incidents, incident_id))[1] == event


async def test_each_item_of_a_batch_brings_its_own(incidents: Incidents) -> None:
    ids = {await incidents.opened_id(): new_approval() for _ in range(5)}
    results = await incidents.batch_resolve(
        [
            pb.BatchResolveRequest.Item(
                incident_id=incident_id,
                resolution_type=NO_ACTION,
                approval_id=approval_id,
                approval_events=entries(approval_id),
            )
            for incident_id, approval_id in ids.items()
        ],
        actor=SERVICE,
    )
    assert all(result.HasField("resolved") for result in results)
    for incident_id, approval_id in ids.items():
        events = await whole(incidents, incident_id)
        assert types(events) == WHOLE
        assert {event.attributes["approval_id"] for event in events[1:4]} == {approval_id}


async def test_an_incident_that_was_resolved_before_gets_none(incidents: Incidents) -> None:
    incident_id = (await incidents.resolved(resolution_type=HUMAN)).incident_id
    assert (await resolve(incidents, incident_id, new_approval())).already_resolved
    assert types(await whole(incidents, incident_id)) == ["OPENED", "RESOLVED"]


async def test_ids_of_the_approval_service_are_reserved_in_a_resolve_too(incidents: Incidents) -> None:
    incident_id, other_id, approval_id = (
        await incidents.opened_id(),
        await incidents.opened_id(),
        new_approval(),
    )
    refusal = await refused(
        incidents.resolve(
            incident_id, resolution_type=NO_ACTION, approval_events=entries(approval_id), actor="mallory"
        )
    )
    assert (refusal.code, refusal.fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        ("approval_events[0].event_id",),
    )
    item = pb.BatchResolveRequest.Item(incident_id=incident_id, resolution_type=NO_ACTION)
    results = await incidents.batch_resolve(
        [
            pb.BatchResolveRequest.Item(
                incident_id=other_id, resolution_type=NO_ACTION, approval_events=entries(approval_id)
            ),
            item,
        ],
        actor="mallory",
    )
    assert read_status(results[0].status).code is grpc.StatusCode.INVALID_ARGUMENT
    assert results[1].HasField("resolved")
    assert types(await whole(incidents, other_id)) == ["OPENED"]
