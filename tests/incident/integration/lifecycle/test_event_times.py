"""The time of an added event: when it happened. Late news is late news."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents
from tests.incident.incidents import token
from tests.rpc_errors import refused

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

PROGRESS = ["PROPOSED", "APPROVED", "EXECUTED"]


async def added(
    incidents: Incidents, incident_id: str, event_time: datetime, **fields: Any
) -> incident_pb2.IncidentEvent:
    valid: dict[str, Any] = {"type": "EXECUTED"}
    return await incidents.add_event(incident_id, event_time=event_time, **(valid | fields))


async def quiet(incidents: Incidents, rows: "Rows", since: timedelta, **fields: Any) -> incident_pb2.Incident:
    """An incident without progress for so long."""
    incident_id = await incidents.opened_id(**fields)
    await rows.execute(
        "UPDATE incidents SET create_time = now() - $2::interval, open_time = now() - $2::interval, "
        "last_progress_time = now() - $2::interval WHERE incident_id = $1",
        incident_id,
        since,
    )
    return await incidents.get(incident_id)


async def stuck(incidents: Incidents, labels: dict[str, str]) -> list[str]:
    return [each.incident_id async for each in incidents.list(labels=labels, stuck=True)]


@pytest.mark.parametrize("name", PROGRESS)
async def test_late_news_of_progress_before_the_last_progress_renews_nothing(
    incidents: Incidents, rows: "Rows", name: str
) -> None:
    labels = {"test": token()}
    before = await quiet(incidents, rows, timedelta(hours=1), labels=labels)
    happened = before.last_progress_time.ToDatetime(UTC) - timedelta(minutes=1)
    await added(incidents, before.incident_id, happened, type=name)
    assert await incidents.get(before.incident_id) == before
    assert await stuck(incidents, labels) == [before.incident_id]


async def test_late_news_of_later_progress_sets_the_time_when_it_was_made(
    incidents: Incidents, rows: "Rows"
) -> None:
    labels = {"test": token()}
    before = await quiet(incidents, rows, timedelta(hours=3), labels=labels)
    made = before.last_progress_time.ToDatetime(UTC) + timedelta(hours=1)
    await added(incidents, before.incident_id, made)
    after = await incidents.get(before.incident_id)
    assert after.last_progress_time.ToDatetime(UTC) == made
    assert after.update_time.ToDatetime(UTC) > made
    # Two hours ago is still longer than the threshold.
    assert await stuck(incidents, labels) == [before.incident_id]


async def test_a_time_more_than_five_minutes_ahead_is_refused(incidents: Incidents, rows: "Rows") -> None:
    incident_id = await incidents.opened_id()
    now: datetime = await rows.fetchval("SELECT now()")
    event_id = token()
    refusal = await refused(added(incidents, incident_id, now + timedelta(minutes=6), event_id=event_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "EVENT_TIME_AHEAD")
    assert refusal.fields == ("event_time",)
    assert await incidents.event_types(incident_id) == ["OPENED"]
    # The id is free.
    await added(incidents, incident_id, now, event_id=event_id)


async def test_a_clock_that_is_a_little_ahead_makes_no_progress_in_the_future(
    incidents: Incidents, rows: "Rows"
) -> None:
    incident_id = await incidents.opened_id()
    ahead = (await rows.fetchval("SELECT now()")) + timedelta(minutes=4)
    event = await added(incidents, incident_id, ahead)
    assert event.event_time.ToDatetime(UTC) == ahead
    found = await incidents.get(incident_id)
    assert found.last_progress_time == found.update_time
    assert found.last_progress_time.ToDatetime(UTC) < ahead


async def test_an_entry_of_the_approval_service_is_kept_even_if_its_clock_is_far_ahead(
    incidents: Incidents,
) -> None:
    incident_id = await incidents.opened_id()
    ahead = datetime(2999, 1, 1, tzinfo=UTC)
    content = {"event_id": f"APR-20260507-99ADF2/executed/{token()}", "actor": "service:approval"}
    event = await added(incidents, incident_id, ahead, **content)
    assert await added(incidents, incident_id, ahead, **content) == event
    assert event.event_time.ToDatetime(UTC) == ahead
    assert (await incidents.get(incident_id)).last_progress_time.ToDatetime(UTC) < ahead
