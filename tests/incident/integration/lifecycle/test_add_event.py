"""AddEvent: idempotent, in commit order, and progress of the incident for some types."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.client import CallError
from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents
from tests.incident.incidents import UNKNOWN_ID, token
from tests.rpc_errors import refused

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

Type = incident_pb2.IncidentEvent
# The types that callers may add, and whether each is progress of an unresolved incident.
ADDABLE = {
    "PROPOSED": True,
    "APPROVED": True,
    "REJECTED": False,
    "EXPIRED": False,
    "CANCELLED": False,
    "EXECUTION_STARTED": True,
    "EXECUTED": True,
    "EXECUTION_FAILED": False,
    "NOTE": False,
    "RECOVERED": False,
    "NOT_RECOVERED": False,
}


async def event(incidents: Incidents, incident_id: str, **fields: Any) -> incident_pb2.IncidentEvent:
    valid: dict[str, Any] = {"type": "NOTE", "summary": "looked"}
    return await incidents.add_event(incident_id, **(valid | fields))


async def test_an_event_is_on_the_timeline_with_its_content_and_its_actor(incidents: Incidents) -> None:
    incident = await incidents.opened()
    happened = Timestamp(seconds=1_700_000_000, nanos=123_456_000)
    content: dict[str, Any] = {
        "event_id": token(),
        "event_time": happened,
        "type": Type.TYPE_PROPOSED,
        "summary": "RESTART deployment/api\n☂",
        "attributes": {"approval_id": "APR-20260507-1A2B3C", "zażółć": ""},
    }
    added = await incidents.add_event(incident.incident_id, **content, actor="alice")
    assert (await incidents.events(incident.incident_id))[-1] == added
    assert added == incident_pb2.IncidentEvent(
        incident_id=incident.incident_id, actor="alice", sequence=added.sequence, **content
    )


async def test_an_event_without_a_time_happened_now(incidents: Incidents) -> None:
    incident = await incidents.opened()
    added = await event(incidents, incident.incident_id)
    opening = (await incidents.events(incident.incident_id))[0]
    assert opening.event_time.ToDatetime() < added.event_time.ToDatetime()


@pytest.mark.parametrize(("name", "progress"), ADDABLE.items(), ids=ADDABLE)
async def test_only_progress_events_set_the_time_of_last_progress(
    incidents: Incidents, name: str, progress: bool
) -> None:
    before = await incidents.opened()
    await event(incidents, before.incident_id, type=Type.Type.Value(f"TYPE_{name}"))
    after = await incidents.get(before.incident_id)
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


async def test_the_start_of_an_operation_makes_every_earlier_resolve_fail_with_every_clock(
    incidents: Incidents, rows: "Rows"
) -> None:
    incident_id = await incidents.opened_id()
    # The database's clock was set back since.
    await rows.execute(
        "UPDATE incidents SET last_progress_time = now() + interval '1 hour' WHERE incident_id = $1",
        incident_id,
    )
    before = await incidents.get(incident_id)
    started = await event(
        incidents, incident_id, type="EXECUTION_STARTED", event_time=Timestamp(seconds=1_700_000_000)
    )
    assert started.resolution_number == 0
    refusal = await refused(incidents.resolve(incident_id, resolution_type="EXPIRED_ALERT", etag=before.etag))
    assert refusal.code is grpc.StatusCode.ABORTED
    assert (await incidents.get(incident_id)).last_progress_time == before.last_progress_time


@pytest.mark.parametrize(("name", "frees"), ADDABLE.items(), ids=ADDABLE)
async def test_an_incident_with_new_progress_is_not_stuck(
    incidents: Incidents, rows: "Rows", name: str, frees: bool
) -> None:
    labels: dict[str, Any] = {"test": token()}
    incident = await incidents.opened(labels=labels)
    await rows.execute(
        "UPDATE incidents SET last_progress_time = now() - interval '1 day' WHERE incident_id = $1",
        incident.incident_id,
    )
    await event(incidents, incident.incident_id, type=Type.Type.Value(f"TYPE_{name}"))
    stuck = (await incidents.list(labels=labels, stuck=True).page()).incidents
    assert [each.incident_id for each in stuck] == ([] if frees else [incident.incident_id])


@pytest.mark.parametrize("name", ADDABLE)
async def test_events_leave_a_resolved_incident_unchanged(incidents: Incidents, name: str) -> None:
    incident = await incidents.resolved()
    added = await event(incidents, incident.incident_id, type=Type.Type.Value(f"TYPE_{name}"))
    assert added.resolution_number == 1
    assert await incidents.get(incident.incident_id) == incident
    assert name in await incidents.event_types(incident.incident_id)


async def test_add_event_is_idempotent_by_event_id_and_a_repetition_writes_nothing(
    incidents: Incidents, rows: "Rows"
) -> None:
    incident = await incidents.opened()
    request: dict[str, Any] = {"event_id": token(), "type": "EXECUTED", "attributes": {"a": "1", "b": "2"}}
    first = await event(incidents, incident.incident_id, **request)
    before = await incidents.get(incident.incident_id)
    assert await event(incidents, incident.incident_id, **request) == first
    assert await event(incidents, incident.incident_id, **request, event_time=first.event_time) == first
    assert await incidents.get(incident.incident_id) == before
    assert await written(rows, request["event_id"]) == 1


async def test_concurrent_calls_with_the_same_event_add_it_once(incidents: Incidents, rows: "Rows") -> None:
    incident = await incidents.opened()
    event_id = token()
    added = await asyncio.gather(
        *(event(incidents, incident.incident_id, event_id=event_id, type="PROPOSED") for _ in range(30))
    )
    assert len({each.sequence for each in added}) == 1
    assert await written(rows, event_id) == 1
    assert await incidents.event_types(incident.incident_id) == ["OPENED", "PROPOSED"]


async def test_add_event_is_idempotent_also_after_the_incident_was_resolved(incidents: Incidents) -> None:
    incident = await incidents.opened()
    event_id = token()
    first = await event(incidents, incident.incident_id, event_id=event_id)
    await incidents.resolve(incident.incident_id, resolution_type="HUMAN")
    assert await event(incidents, incident.incident_id, event_id=event_id) == first


OTHER: dict[str, dict[str, Any]] = {
    "type": {"type": Type.TYPE_EXECUTED},
    "summary": {"summary": "another"},
    "attributes": {"attributes": {"a": "another"}},
    "event_time": {"event_time": Timestamp(seconds=1)},
}


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
async def test_an_event_id_reused_with_other_content_is_refused(
    incidents: Incidents, rows: "Rows", other: dict[str, Any]
) -> None:
    incident = await incidents.opened()
    content: dict[str, Any] = {"event_id": token(), "attributes": {"a": "1"}}
    await event(incidents, incident.incident_id, **content)
    refusal = await refused(event(incidents, incident.incident_id, **content | other))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EVENT_ID_TAKEN")
    assert await written(rows, content["event_id"]) == 1


async def test_an_event_id_reused_for_another_incident_or_by_another_actor_is_refused(
    incidents: Incidents,
) -> None:
    incident, another = await incidents.opened(), await incidents.opened()
    event_id = token()
    await event(incidents, incident.incident_id, event_id=event_id)
    refusal = await refused(event(incidents, another.incident_id, event_id=event_id))
    assert refusal.reason == "EVENT_ID_TAKEN"
    refusal = await refused(event(incidents, incident.incident_id, event_id=event_id, actor="mallory"))
    assert refusal.reason == "EVENT_ID_TAKEN"
    assert await incidents.event_types(another.incident_id) == ["OPENED"]


async def test_concurrent_calls_with_one_event_id_for_two_incidents_add_one_event(
    incidents: Incidents, rows: "Rows"
) -> None:
    ids = [(await incidents.opened()).incident_id for _ in range(10)]
    event_id = token()
    outcomes = await asyncio.gather(
        *(event(incidents, each, event_id=event_id) for each in ids), return_exceptions=True
    )
    assert sum(isinstance(outcome, incident_pb2.IncidentEvent) for outcome in outcomes) == 1
    codes = {outcome.code for outcome in outcomes if isinstance(outcome, CallError)}
    assert codes == {grpc.StatusCode.ALREADY_EXISTS}
    assert await written(rows, event_id) == 1


async def test_an_unknown_incident_has_no_timeline(incidents: Incidents, rows: "Rows") -> None:
    event_id = token()
    refusal = await refused(event(incidents, UNKNOWN_ID, event_id=event_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
    assert await written(rows, event_id) == 0


async def test_a_timeline_is_in_commit_order_not_in_the_order_of_event_times(incidents: Incidents) -> None:
    incident = await incidents.opened()
    ids = [token() for _ in range(3)]
    for event_id, seconds in zip(ids, (3000, 1000, 2000), strict=True):
        await event(incidents, incident.incident_id, event_id=event_id, event_time=Timestamp(seconds=seconds))
    found = await incidents.events(incident.incident_id)
    assert [each.event_id for each in found[1:]] == ids
    assert found[1].event_time.ToDatetime(UTC) == datetime.fromtimestamp(3000, UTC)


async def test_pages_of_a_timeline_under_concurrent_writes_have_every_event_once_in_order(
    incidents: Incidents,
) -> None:
    incident_id = (await incidents.opened()).incident_id
    early = [token() for _ in range(20)]
    await asyncio.gather(*(event(incidents, incident_id, event_id=each) for each in early))

    found: list[incident_pb2.IncidentEvent] = []
    late: list[str] = []
    async for page in incidents.list_events(incident_id, page_size=3).pages():
        assert len(page.events) <= 3
        found += page.events
        if len(late) < 4:
            late.append(token())
            await event(incidents, incident_id, event_id=late[-1])
    assert [each.type for each in found] == [Type.TYPE_OPENED] + [Type.TYPE_NOTE] * 24
    assert sorted(each.event_id for each in found[1:21]) == sorted(early)
    assert [each.event_id for each in found[21:]] == late
    sequences = [each.sequence for each in found]
    assert sequences == sorted(set(sequences))


async def written(rows: "Rows", event_id: str) -> int:
    """How many rows of an event there are."""
    count: int = await rows.fetchval("SELECT count(*) FROM incident_events WHERE event_id = $1", event_id)
    return count
