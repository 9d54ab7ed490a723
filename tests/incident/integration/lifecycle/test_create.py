"""Create: opening, idempotency, deduplication, concurrency."""

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents, incidents_at
from tests.incident.incidents import NO_ACTION, OPEN, RESOLVED, new_id, token
from tests.incident.wire import create_request
from tests.rpc_errors import refused
from tests.services import RunningService

if TYPE_CHECKING:
    import asyncpg

    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Rows = asyncpg.Connection[asyncpg.Record]

CONTENT: dict[str, Any] = {
    "title": "disk full on db-1 ☂",
    "description": "first line\nsecond line",
    "severity": incident_pb2.SEVERITY_CRITICAL,
    "labels": {"zone": "eu-1", "empty": "", "unicode": "żółw"},
    "source": "alertmanager",
}


async def test_an_incident_opens_with_the_content_of_the_request(incidents: Incidents) -> None:
    fingerprint = token()
    answer = await incidents.report(**CONTENT, fingerprint=fingerprint)
    incident = answer.incident
    assert not answer.deduplicated
    assert re.fullmatch(r"INC-[0-9]{8}-[0-9A-F]{6,12}", incident.incident_id)
    assert {name: getattr(incident, name) for name in CONTENT} == CONTENT
    assert incident.state == OPEN
    assert incident.fingerprint == fingerprint
    assert incident.occurrence_count == 1
    assert incident.opened_by == "operator"
    assert incident.resolution_number == 0
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_UNSPECIFIED
    assert not incident.resolution_note
    assert not incident.resolved_by
    assert incident.etag
    assert not incident.HasField("investigate_time")
    assert not incident.HasField("resolve_time")
    assert (
        incident.create_time == incident.update_time == incident.last_seen_time == incident.last_progress_time
    )
    assert await incidents.event_types(incident.incident_id) == ["OPENED"]
    assert await incidents.get(incident.incident_id) == incident


async def test_an_incident_opens_with_the_requested_id(incidents: Incidents) -> None:
    wanted = new_id()
    assert (await incidents.opened(incident_id=wanted)).incident_id == wanted


@pytest.mark.parametrize("key", ["request_id", "incident_id"])
async def test_create_is_idempotent_and_a_repetition_writes_nothing(
    stub: "IncidentServiceAsyncStub", rows: "Rows", key: str
) -> None:
    request = create_request(**CONTENT, **{key: new_id()})
    first = await stub.Create(request)
    before = await written(rows, first.incident.incident_id)
    again = await stub.Create(request)
    assert again == first
    assert await written(rows, first.incident.incident_id) == before


async def test_a_retry_of_create_returns_the_incident_as_it_is_now(incidents: Incidents) -> None:
    request_id = token()
    incident = await incidents.opened(request_id=request_id)
    await incidents.resolve(incident.incident_id, resolution_type=NO_ACTION)
    assert (await incidents.opened(request_id=request_id)).state == RESOLVED


OTHER_CONTENT: dict[str, dict[str, Any]] = {
    "title": {"title": "another"},
    "description": {"description": "another"},
    "severity": {"severity": incident_pb2.SEVERITY_LOW},
    "fingerprint": {"fingerprint": "another"},
    "labels": {"labels": {"zone": "us-1"}},
    "source": {"source": "another"},
}


@pytest.mark.parametrize("other", OTHER_CONTENT.values(), ids=OTHER_CONTENT.keys())
@pytest.mark.parametrize(
    ("key", "reason"), [("request_id", "REQUEST_ID_REUSED"), ("incident_id", "INCIDENT_ID_TAKEN")]
)
async def test_an_idempotency_key_reused_with_other_content_is_refused(
    incidents: Incidents, rows: "Rows", key: str, reason: str, other: dict[str, Any]
) -> None:
    value = new_id()
    first = (await incidents.report(**CONTENT, **{key: value})).incident
    before = await written(rows, first.incident_id)
    refusal = await refused(incidents.report(**CONTENT | other, **{key: value}))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, reason)
    assert await written(rows, first.incident_id) == before


async def test_a_request_id_reused_for_another_incident_id_is_refused(incidents: Incidents) -> None:
    request_id = token()
    await incidents.opened(request_id=request_id, incident_id=new_id())
    refusal = await refused(incidents.report(request_id=request_id, incident_id=new_id()))
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS


async def test_a_report_with_the_fingerprint_of_an_unresolved_incident_is_deduplicated(
    incidents: Incidents,
) -> None:
    fingerprint = token()
    first = await incidents.opened(fingerprint=fingerprint)
    answer = await incidents.report(title="again", fingerprint=fingerprint)
    assert answer.deduplicated
    counted = answer.incident
    assert counted.incident_id == first.incident_id
    assert counted.occurrence_count == 2
    assert counted.title == first.title
    assert counted.last_progress_time == first.last_progress_time
    assert counted.last_seen_time.ToDatetime() > first.last_seen_time.ToDatetime()
    assert counted.etag != first.etag
    assert await incidents.event_types(first.incident_id) == ["OPENED", "DEDUPLICATED"]


async def test_a_retry_of_a_deduplicated_report_is_idempotent(incidents: Incidents) -> None:
    fingerprint = token()
    await incidents.opened(fingerprint=fingerprint)
    report = {"fingerprint": fingerprint, "request_id": token()}
    first, again = [await incidents.report(**report) for _ in range(2)]
    assert first == again
    assert again.deduplicated
    assert again.incident.occurrence_count == 2


async def test_a_report_after_the_resolution_opens_a_new_incident(incidents: Incidents) -> None:
    fingerprint = token()
    first = await incidents.opened(fingerprint=fingerprint)
    await incidents.resolve(first.incident_id, resolution_type=NO_ACTION)
    answer = await incidents.report(fingerprint=fingerprint)
    assert not answer.deduplicated
    assert answer.incident.incident_id != first.incident_id


async def test_without_a_fingerprint_nothing_is_deduplicated(incidents: Incidents) -> None:
    first, second = await incidents.opened(), await incidents.opened()
    assert first.incident_id != second.incident_id


async def test_concurrent_reports_with_one_fingerprint_open_one_incident(incidents: Incidents) -> None:
    fingerprint = token()
    answers = await asyncio.gather(
        *(incidents.report(fingerprint=fingerprint, source=f"s{number}") for number in range(50))
    )
    assert len({answer.incident.incident_id for answer in answers}) == 1
    assert Counter(answer.deduplicated for answer in answers) == {False: 1, True: 49}
    assert sorted(answer.incident.occurrence_count for answer in answers) == list(range(1, 51))
    types = await incidents.event_types(answers[0].incident.incident_id)
    assert Counter(types) == {"OPENED": 1, "DEDUPLICATED": 49}


@pytest.mark.parametrize("key", ["request_id", "incident_id"])
async def test_concurrent_retries_with_one_idempotency_key_open_one_incident(
    stub: "IncidentServiceAsyncStub", rows: "Rows", key: str
) -> None:
    request = create_request(title=token(), **{key: new_id()})
    answers = await asyncio.gather(*(stub.Create(request) for _ in range(50)))
    assert len({answer.incident.incident_id for answer in answers}) == 1
    assert not any(answer.deduplicated for answer in answers)
    assert await rows.fetchval("SELECT count(*) FROM incidents WHERE title = $1", request.title) == 1


async def test_a_report_concurrent_with_a_resolution_is_never_lost(service: RunningService) -> None:
    async with incidents_at(service.address) as one, incidents_at(service.address) as two:
        for _ in range(10):
            fingerprint = token()
            first = await one.opened(fingerprint=fingerprint)
            resolution, report = await asyncio.gather(
                one.resolve(first.incident_id, resolution_type=NO_ACTION),
                two.report(fingerprint=fingerprint),
            )
            assert not resolution.already_resolved
            same = report.incident.incident_id == first.incident_id
            assert report.deduplicated == same
            assert report.incident.state == OPEN


async def written(rows: "Rows", incident_id: str) -> list[Any]:
    """The rows of an incident, with the transaction that wrote each."""
    return [
        await rows.fetchrow("SELECT xmin, xmax, * FROM incidents WHERE incident_id = $1", incident_id),
        await rows.fetch("SELECT xmin, * FROM incident_events WHERE incident_id = $1", incident_id),
        await rows.fetchval("SELECT count(*) FROM create_requests WHERE incident_id = $1", incident_id),
    ]
