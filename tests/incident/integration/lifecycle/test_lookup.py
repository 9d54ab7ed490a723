"""LookupIncidents: what exists, and whether a Resolve would resolve it. It says what Resolve then does."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.rpc.timestamps import to_timestamp
from tests.callers import Incidents
from tests.incident.incidents import (
    INVESTIGATING,
    NO_ACTION,
    OPEN,
    RESOLVED,
    UNKNOWN_ID,
    new_id,
)
from tests.rpc_errors import refused

if TYPE_CHECKING:
    import asyncpg

APPROVAL = "APR-20260507-99ADF2"
OTHER_APPROVAL = "APR-20260507-00000A"
UNSPECIFIED = incident_pb2.Incident.STATE_UNSPECIFIED
Item = pb.LookupIncidentsRequest.Item
Result = pb.LookupIncidentsResponse.Result


async def look_up(incidents: Incidents, *items: pb.LookupIncidentsRequest.Item) -> Sequence[Any]:
    return await incidents.lookup_incidents(items)


async def reopened(incidents: Incidents, **fields: Any) -> incident_pb2.Incident:
    """An incident in its second opening; the first was resolved with these fields."""
    incident = await incidents.opened()
    await incidents.resolve(incident.incident_id, resolution_type=NO_ACTION, **fields)
    return await incidents.reopen(incident.incident_id, reason="it is back")


async def test_every_state_is_found_in_the_order_of_the_items(
    incidents: Incidents, rows: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    removed = new_id()
    await rows.execute("INSERT INTO removed_incidents (incident_id, openings) VALUES ($1, 3)", removed)
    new = await incidents.opened_id()
    looked_into = await incidents.opened_id()
    await incidents.start_investigation(looked_into)
    done = (await incidents.resolved()).incident_id
    again = (await reopened(incidents)).incident_id
    expected = [
        Result(incident_id=UNKNOWN_ID),
        Result(incident_id=new, state=OPEN, opening=1, resolvable=True),
        Result(incident_id=looked_into, state=INVESTIGATING, opening=1, resolvable=True),
        Result(incident_id=done, state=RESOLVED, opening=1),
        Result(incident_id=again, state=OPEN, opening=2, resolvable=True),
        Result(incident_id=removed, state=RESOLVED, opening=3, removed=True),
        Result(incident_id=new, state=OPEN, opening=1, resolvable=True),
    ]
    found = await look_up(incidents, *(Item(incident_id=result.incident_id) for result in expected))
    assert list(found) == expected


@pytest.mark.parametrize("first", [{}, {"approval_id": APPROVAL}], ids=["by hand", "by the approval"])
@pytest.mark.parametrize("opening", [0, 1, 2, 7])
@pytest.mark.parametrize("approval_id", ["", APPROVAL, OTHER_APPROVAL])
@pytest.mark.parametrize("executed", [None, timedelta(minutes=-1), timedelta(minutes=1)])
async def test_resolvable_is_what_a_resolve_then_resolves(
    incidents: Incidents, first: dict[str, str], opening: int, approval_id: str, executed: timedelta | None
) -> None:
    incident = await reopened(incidents, **first)
    fields: dict[str, Any] = {
        "incident_id": incident.incident_id,
        "approval_id": approval_id,
        "opening": opening,
    }
    if executed is not None:
        fields["execute_time"] = to_timestamp(incident.update_time.ToDatetime(tzinfo=UTC) + executed)
    [found] = await look_up(incidents, Item(**fields))
    assert await incidents.get(incident.incident_id) == incident
    response = await incidents.resolve(resolution_type=NO_ACTION, **fields)
    assert found.resolvable is not response.already_resolved


async def test_a_thousand_are_looked_up_at_once_and_no_more(incidents: Incidents) -> None:
    known = await incidents.opened_id()
    items = [Item(incident_id=new_id(), approval_id=APPROVAL, opening=1) for _ in range(999)]
    found = await look_up(incidents, *items, Item(incident_id=known))
    assert [result.state for result in found] == [UNSPECIFIED] * 999 + [OPEN]
    refusal = await refused(look_up(incidents, *items, *items[:2]))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("items",))


@pytest.mark.parametrize(
    ("items", "field"),
    [
        pytest.param([], "items", id="none"),
        pytest.param([Item(incident_id="INC-1")], "items[0].incident_id", id="id"),
        pytest.param(
            [Item(incident_id=UNKNOWN_ID, approval_id=UNKNOWN_ID)], "items[0].approval_id", id="approval"
        ),
        pytest.param([Item(incident_id=UNKNOWN_ID, opening=-1)], "items[0].opening", id="opening"),
        pytest.param(
            [Item(incident_id=UNKNOWN_ID), Item(incident_id=UNKNOWN_ID, execute_time=Timestamp(nanos=-1))],
            "items[1].execute_time",
            id="time",
        ),
    ],
)
async def test_an_invalid_item_is_named(incidents: Incidents, items: list[Any], field: str) -> None:
    refusal = await refused(look_up(incidents, *items))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (field,))


async def test_an_execution_long_ago_does_not_make_a_first_opening_unresolvable(incidents: Incidents) -> None:
    incident_id = await incidents.opened_id()
    long_ago = to_timestamp(datetime(2020, 1, 1, tzinfo=UTC))
    [found] = await look_up(
        incidents, Item(incident_id=incident_id, approval_id=APPROVAL, execute_time=long_ago)
    )
    assert found.resolvable
