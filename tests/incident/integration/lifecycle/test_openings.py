"""A resolve is for one opening: a late or repeated one never closes an incident that was reopened since."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.rpc.timestamps import to_timestamp
from tests.callers import Incidents
from tests.incident.incidents import NO_ACTION, OPEN, RESOLVED
from tests.rpc_errors import refused

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

APPROVAL = "APR-20260507-99ADF2"
OTHER_APPROVAL = "APR-20260507-00000A"


async def created(incidents: Incidents) -> incident_pb2.Incident:
    request: dict[str, Any] = {"title": "disk full", "severity": incident_pb2.SEVERITY_HIGH}
    return (await incidents.create(**request)).incident


async def resolve(incidents: Incidents, incident_id: str, **fields: Any) -> pb.ResolveResponse:
    return await incidents.resolve(incident_id, resolution_type=NO_ACTION, **fields)


async def reopen(incidents: Incidents, incident_id: str) -> incident_pb2.Incident:
    return await incidents.reopen(incident_id, reason="it is back")


async def resolved_events(rows: "Rows", incident_id: str) -> int:
    count: int = await rows.fetchval(
        "SELECT count(*) FROM incident_events WHERE incident_id = $1 AND type = 'RESOLVED'", incident_id
    )
    return count


async def test_an_opening_is_counted_by_each_reopen(incidents: Incidents) -> None:
    incident = await created(incidents)
    assert incident.opening == 1
    assert (await resolve(incidents, incident.incident_id)).incident.opening == 1
    assert (await reopen(incidents, incident.incident_id)).opening == 2
    assert (await resolve(incidents, incident.incident_id)).incident.opening == 2
    assert (await reopen(incidents, incident.incident_id)).opening == 3


async def test_a_repeated_resolve_of_an_opening_that_is_over_writes_nothing(
    incidents: Incidents, rows: "Rows"
) -> None:
    incident_id = (await created(incidents)).incident_id
    first = await resolve(incidents, incident_id, opening=1, approval_id=APPROVAL)
    assert (first.already_resolved, first.incident.state) == (False, RESOLVED)
    reopened = await reopen(incidents, incident_id)
    again = await resolve(incidents, incident_id, opening=1, approval_id=APPROVAL)
    assert again.already_resolved
    assert again.incident == reopened
    assert await resolved_events(rows, incident_id) == 1
    jobs = await rows.fetchval(
        "SELECT count(*) FROM outbox WHERE payload ->> 'incident_id' = $1", incident_id
    )
    assert jobs == 5


async def test_an_opening_that_is_over_comes_before_a_stale_etag(incidents: Incidents) -> None:
    incident_id = (await created(incidents)).incident_id
    await resolve(incidents, incident_id)
    await reopen(incidents, incident_id)
    assert (await resolve(incidents, incident_id, opening=1, etag="0")).already_resolved


async def test_a_late_resolve_after_a_resolve_by_hand_and_a_reopen_writes_nothing(
    incidents: Incidents,
) -> None:
    incident_id = (await created(incidents)).incident_id
    await resolve(incidents, incident_id)
    await reopen(incidents, incident_id)
    late = await resolve(incidents, incident_id, opening=1, approval_id=APPROVAL)
    assert (late.already_resolved, late.incident.state) == (True, OPEN)


async def test_the_current_opening_is_resolved(incidents: Incidents) -> None:
    incident_id = (await created(incidents)).incident_id
    await resolve(incidents, incident_id, opening=1)
    await reopen(incidents, incident_id)
    second = await resolve(incidents, incident_id, opening=2)
    assert (second.already_resolved, second.incident.state) == (False, RESOLVED)


async def test_an_opening_that_a_restored_database_has_not_reached_is_the_current_one(
    incidents: Incidents,
) -> None:
    incident_id = (await created(incidents)).incident_id
    assert (await resolve(incidents, incident_id, opening=7)).incident.state == RESOLVED


async def test_an_approval_that_does_not_know_its_opening_resolves_an_incident_once(
    incidents: Incidents, rows: "Rows"
) -> None:
    incident_id = (await created(incidents)).incident_id
    await resolve(incidents, incident_id, approval_id=APPROVAL)
    await reopen(incidents, incident_id)
    again = await resolve(incidents, incident_id, approval_id=APPROVAL)
    assert (again.already_resolved, again.incident.state) == (True, OPEN)
    other = await resolve(incidents, incident_id, approval_id=OTHER_APPROVAL)
    assert (other.already_resolved, other.incident.state) == (False, RESOLVED)
    await reopen(incidents, incident_id)
    assert (await resolve(incidents, incident_id, approval_id=APPROVAL)).already_resolved
    assert await resolved_events(rows, incident_id) == 2


@pytest.mark.parametrize(
    ("after_the_reopen", "resolves"),
    [(timedelta(minutes=-1), False), (timedelta(minutes=1), True)],
    ids=["before", "after"],
)
async def test_an_approval_that_does_not_know_its_opening_resolves_none_that_was_reopened_after_its_execution(
    incidents: Incidents, after_the_reopen: timedelta, resolves: bool
) -> None:
    incident_id = (await created(incidents)).incident_id
    await resolve(incidents, incident_id)
    reopened = await reopen(incidents, incident_id)
    executed = reopened.update_time.ToDatetime(tzinfo=UTC) + after_the_reopen
    late = await resolve(incidents, incident_id, approval_id=APPROVAL, execute_time=to_timestamp(executed))
    assert late.already_resolved is not resolves


async def test_a_first_opening_is_resolved_however_long_ago_the_execution_was(incidents: Incidents) -> None:
    incident_id = (await created(incidents)).incident_id
    long_ago = to_timestamp(datetime(2020, 1, 1, tzinfo=UTC))
    response = await resolve(incidents, incident_id, approval_id=APPROVAL, execute_time=long_ago)
    assert not response.already_resolved


async def test_a_batch_leaves_the_openings_that_are_over_and_resolves_the_others(
    incidents: Incidents, rows: "Rows"
) -> None:
    over, current = (await created(incidents)).incident_id, (await created(incidents)).incident_id
    await resolve(incidents, over)
    await reopen(incidents, over)
    items = [
        pb.BatchResolveRequest.Item(incident_id=over, resolution_type=NO_ACTION, opening=1),
        pb.BatchResolveRequest.Item(incident_id=current, resolution_type=NO_ACTION, opening=1),
        pb.BatchResolveRequest.Item(incident_id=over, resolution_type=NO_ACTION, opening=2),
    ]
    results = await incidents.batch_resolve(items)
    first, second, third = (result.resolved for result in results)
    assert (first.already_resolved, first.HasField("resolve_time")) == (True, False)
    assert first.resolution_type == incident_pb2.RESOLUTION_TYPE_UNSPECIFIED
    assert (second.already_resolved, third.already_resolved) == (False, False)
    assert await resolved_events(rows, over) == 2


@pytest.mark.parametrize("fields", [{"opening": 1}, {"approval_id": APPROVAL}], ids=["opening", "approval"])
async def test_concurrent_repetitions_and_a_reopen_in_between_resolve_an_opening_once(
    incidents: Incidents, rows: "Rows", fields: dict[str, Any]
) -> None:
    for _ in range(10):
        incident_id = (await created(incidents)).incident_id

        async def reopen_when_resolved(incident_id: str = incident_id) -> None:
            await resolve(incidents, incident_id, **fields)
            await reopen(incidents, incident_id)

        await asyncio.gather(
            reopen_when_resolved(), *(resolve(incidents, incident_id, **fields) for _ in range(10))
        )
        found = await incidents.get(incident_id)
        assert (found.state, found.opening) == (OPEN, 2)
        assert await resolved_events(rows, incident_id) == 1


async def test_a_negative_opening_and_a_time_that_is_none_are_named(incidents: Incidents) -> None:
    incident_id = (await created(incidents)).incident_id
    found = await refused(resolve(incidents, incident_id, opening=-1))
    assert (found.code, found.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("opening",))
    found = await refused(resolve(incidents, incident_id, execute_time=Timestamp(nanos=-1)))
    assert (found.code, found.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("execute_time",))
    items = [
        pb.BatchResolveRequest.Item(
            incident_id=incident_id, resolution_type=NO_ACTION, execute_time=Timestamp(nanos=-1)
        ),
        pb.BatchResolveRequest.Item(incident_id=incident_id, resolution_type=NO_ACTION),
    ]
    bad, good = await incidents.batch_resolve(items)
    assert bad.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert not good.resolved.already_resolved
