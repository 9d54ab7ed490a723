"""Reopen: back to OPEN, and the next resolution takes effect once more, under a number of its own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from awoooi.client import CallError
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.callers import Incidents, incidents_at
from tests.databases import cloned_database
from tests.incident.incidents import NO_ACTION, OPEN, RESOLVED, UNKNOWN_ID, token
from tests.incident.side_effects import (
    EFFECTS,
    WEBHOOK,
    ConnectedService,
    SideEffect,
    connected_service,
    ended,
)
from tests.migrated import migrate_incident
from tests.rpc_errors import read_refusal, refused

EXPIRED_ALERT = incident_pb2.RESOLUTION_TYPE_EXPIRED_ALERT

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connected() -> AsyncIterator[ConnectedService]:
    async with (
        cloned_database("incident", migrate_incident) as database,
        connected_service(database) as running,
    ):
        yield running


@pytest.fixture
def incidents(connected: ConnectedService) -> Incidents:
    return connected.incidents


async def reopen(incidents: Incidents, incident_id: str, **fields: Any) -> incident_pb2.Incident:
    return await incidents.reopen(incident_id, **({"reason": "it came back"} | fields))


async def resolve(
    incidents: Incidents,
    incident_id: str,
    resolution_type: incident_pb2.ResolutionType.ValueType = NO_ACTION,
) -> pb.ResolveResponse:
    return await incidents.resolve(incident_id, resolution_type=resolution_type, note="observed")


async def test_a_reopened_incident_is_open_and_keeps_its_resolution_number(
    connected: ConnectedService,
) -> None:
    before = await connected.incidents.resolved()
    async with incidents_at(connected.service.address, actor="alice") as incidents:
        incident = await reopen(incidents, before.incident_id, reason="not over")
    assert (incident.state, incident.resolution_number) == (OPEN, 1)
    assert not incident.HasField("resolve_time")
    assert not incident.HasField("investigate_time")
    assert (incident.resolution_type, incident.resolution_note, incident.resolved_by) == (0, "", "")
    assert incident.create_time == before.create_time
    assert incident.last_progress_time.ToDatetime() > before.last_progress_time.ToDatetime()
    assert incident.etag != before.etag
    assert await connected.incidents.get(incident.incident_id) == incident
    answer = await connected.incidents.list_events(
        incident.incident_id, types=[incident_pb2.IncidentEvent.TYPE_REOPENED]
    ).page()
    assert [(event.actor, event.summary, event.resolution_number) for event in answer.events] == [
        ("alice", "not over", 1)
    ]


async def test_the_next_resolution_takes_effect_exactly_once_and_leaves_the_first_unchanged(
    connected: ConnectedService,
) -> None:
    incidents, title = connected.incidents, f"disk full {token()}"
    first = await incidents.opened(title=title)
    await resolve(incidents, first.incident_id, EXPIRED_ALERT)
    effects = await ended(incidents, first.incident_id)
    postmortem = await incidents.get_postmortem(first.incident_id)
    counted = await expired_alerts(connected)

    await reopen(incidents, first.incident_id)
    second = await resolve(incidents, first.incident_id, EXPIRED_ALERT)
    assert not second.already_resolved
    assert (second.incident.state, second.incident.resolution_number) == (RESOLVED, 2)

    again = await ended(incidents, first.incident_id, number=2)
    assert {effect: found.state for effect, found in again.items()} == dict.fromkeys(
        EFFECTS, SideEffect.STATE_DONE
    )
    assert await ended(incidents, first.incident_id) == effects

    versions = [
        await incidents.get_postmortem(first.incident_id, resolution_number=number) for number in (0, 1, 2)
    ]
    assert [version.resolution_number for version in versions] == [2, 1, 2]
    assert versions[1] == postmortem
    assert "it came back" in versions[2].markdown
    assert "it came back" not in versions[1].markdown

    (match,) = (await incidents.search_knowledge(title.rsplit(maxsplit=1)[-1]).page()).matches
    assert (match.entry.use_count, match.entry.success_count) == (2, 1)

    assert [post.headers["webhook-id"] for post in connected.posts(first.incident_id)] == [
        effects[WEBHOOK].delivery_id,
        again[WEBHOOK].delivery_id,
    ]
    assert effects[WEBHOOK].delivery_id != again[WEBHOOK].delivery_id
    assert len(connected.messages(title)) == 2
    assert await expired_alerts(connected) == counted + 1
    types = await incidents.event_types(first.incident_id)
    assert types.count("RESOLVED") == 2
    assert types.count("EFFECT_DONE") == 2 * len(EFFECTS)


async def test_resolve_is_idempotent_after_a_reopening(connected: ConnectedService) -> None:
    incident = await connected.incidents.resolved()
    await reopen(connected.incidents, incident.incident_id)
    answers = await asyncio.gather(*(resolve(connected.incidents, incident.incident_id) for _ in range(20)))
    assert sum(not answer.already_resolved for answer in answers) == 1
    assert {answer.incident.resolution_number for answer in answers} == {2}
    await ended(connected.incidents, incident.incident_id, number=2)
    assert (await connected.incidents.event_types(incident.incident_id)).count("RESOLVED") == 2
    assert len(connected.posts(incident.incident_id)) == 2


@pytest.mark.parametrize("state", ["OPEN", "INVESTIGATING"])
async def test_an_unresolved_incident_is_not_reopened(incidents: Incidents, state: str) -> None:
    incident = await incidents.opened()
    if state == "INVESTIGATING":
        incident = await incidents.start_investigation(incident.incident_id)
    refusal = await refused(reopen(incidents, incident.incident_id))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "INCIDENT_STATE_NOT_ALLOWED",
    )
    assert refusal.metadata == {"current_state": state, "allowed_states": "RESOLVED"}
    assert refusal.preconditions == (f"is {state}, must be one of: RESOLVED",)
    assert await incidents.get(incident.incident_id) == incident


async def test_an_unknown_incident_is_not_reopened(incidents: Incidents) -> None:
    refusal = await refused(reopen(incidents, UNKNOWN_ID))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")


async def test_a_reopening_with_a_stale_etag_is_refused(incidents: Incidents) -> None:
    incident = await incidents.opened()
    await resolve(incidents, incident.incident_id)
    refusal = await refused(reopen(incidents, incident.incident_id, etag=incident.etag))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "INCIDENT_CHANGED")
    current = await incidents.get(incident.incident_id)
    assert (await reopen(incidents, incident.incident_id, etag=current.etag)).state == OPEN


async def test_a_reopening_is_refused_when_another_unresolved_incident_has_the_fingerprint(
    incidents: Incidents,
) -> None:
    fingerprint = token()
    incident = await incidents.resolved(fingerprint=fingerprint)
    newer = await incidents.opened(fingerprint=fingerprint)
    refusal = await refused(reopen(incidents, incident.incident_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FINGERPRINT_TAKEN")
    assert await incidents.get(incident.incident_id) == incident
    await resolve(incidents, newer.incident_id)
    await reopen(incidents, incident.incident_id)
    # From now on reports count for the reopened one.
    report = await incidents.report(fingerprint=fingerprint)
    assert (report.deduplicated, report.incident.incident_id) == (True, incident.incident_id)


async def test_reopen_is_idempotent_by_request_id(
    incidents: Incidents,
) -> None:
    incident, request_id = await incidents.resolved(), token()
    first = await reopen(incidents, incident.incident_id, request_id=request_id)
    assert await reopen(incidents, incident.incident_id, request_id=request_id) == first
    await resolve(incidents, incident.incident_id)
    again = await reopen(incidents, incident.incident_id, request_id=request_id)
    assert (again.state, again.resolution_number) == (RESOLVED, 2)
    assert (await incidents.event_types(incident.incident_id)).count("REOPENED") == 1


@pytest.mark.parametrize("other", ["reason", "incident_id"])
async def test_a_request_id_reused_for_another_reopening_is_refused(incidents: Incidents, other: str) -> None:
    incident, another = await incidents.resolved(), await incidents.resolved()
    request_id = token()
    await reopen(incidents, incident.incident_id, request_id=request_id)
    value = {"reason": "another", "incident_id": another.incident_id}[other]
    reopening = {"incident_id": incident.incident_id, "request_id": request_id} | {other: value}
    refusal = await refused(reopen(incidents, **reopening))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert await incidents.get(another.incident_id) == another


async def test_of_concurrent_reopenings_one_wins(incidents: Incidents) -> None:
    incident = await incidents.resolved()
    calls = [reopen(incidents, incident.incident_id) for _ in range(20)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    failures = [read_refusal(outcome).reason for outcome in outcomes if isinstance(outcome, CallError)]
    assert failures == ["INCIDENT_STATE_NOT_ALLOWED"] * 19
    assert (await incidents.event_types(incident.incident_id)).count("REOPENED") == 1


async def test_concurrent_reopenings_with_one_request_id_get_the_same_response(incidents: Incidents) -> None:
    incident = await incidents.resolved()
    request_id = token()
    responses = await asyncio.gather(
        *(reopen(incidents, incident.incident_id, request_id=request_id) for _ in range(20))
    )
    assert len({response.etag for response in responses}) == 1
    assert (await incidents.event_types(incident.incident_id)).count("REOPENED") == 1


async def expired_alerts(connected: ConnectedService) -> int:
    """The number of resolutions of a type that only one test uses, from the stats."""
    found = (await connected.incidents.stats()).resolutions.resolved_total
    return next(each.count for each in found if each.resolution_type == EXPIRED_ALERT)
