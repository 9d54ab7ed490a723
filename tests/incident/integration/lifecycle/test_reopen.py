"""Reopen: back to OPEN, and the next resolution takes effect once more, under a number of its own."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.databases import cloned_database
from tests.incident.incidents import (
    NO_ACTION,
    OPEN,
    RESOLVED,
    UNKNOWN_ID,
    create_request,
    event_types,
    incident_stub,
    opened,
    resolved,
    token,
)
from tests.incident.side_effects import (
    EFFECTS,
    WEBHOOK,
    ConnectedService,
    SideEffect,
    connected_service,
    ended,
)
from tests.incident.stats import read_stats
from tests.migrated import migrate_incident
from tests.rpc_errors import read_refusal, refused

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Stub = IncidentServiceAsyncStub

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
def stub(connected: ConnectedService) -> "Stub":
    return connected.stub


def reopen(incident_id: str, **fields: str) -> pb.ReopenRequest:
    return pb.ReopenRequest(**({"incident_id": incident_id, "reason": "it came back"} | fields))


def resolve(
    incident_id: str, resolution_type: incident_pb2.ResolutionType.ValueType = NO_ACTION
) -> pb.ResolveRequest:
    return pb.ResolveRequest(incident_id=incident_id, resolution_type=resolution_type, note="observed")


async def test_a_reopened_incident_is_open_and_keeps_its_resolution_number(
    connected: ConnectedService,
) -> None:
    before = await resolved(connected.stub)
    async with incident_stub(connected.service.address, actor="alice") as stub:
        incident = (await stub.Reopen(reopen(before.incident_id, reason="not over"))).incident
    assert (incident.state, incident.resolution_number) == (OPEN, 1)
    assert not incident.HasField("resolve_time")
    assert not incident.HasField("investigate_time")
    assert (incident.resolution_type, incident.resolution_note, incident.resolved_by) == (0, "", "")
    assert incident.create_time == before.create_time
    assert incident.last_progress_time.ToDatetime() > before.last_progress_time.ToDatetime()
    assert incident.etag != before.etag
    assert (await connected.stub.Get(pb.GetRequest(incident_id=incident.incident_id))).incident == incident
    answer = await connected.stub.ListEvents(
        pb.ListEventsRequest(
            incident_id=incident.incident_id, types=[incident_pb2.IncidentEvent.TYPE_REOPENED]
        )
    )
    assert [(event.actor, event.summary, event.resolution_number) for event in answer.events] == [
        ("alice", "not over", 1)
    ]


async def test_the_next_resolution_takes_effect_exactly_once_and_leaves_the_first_unchanged(
    connected: ConnectedService,
) -> None:
    stub, title = connected.stub, f"disk full {token()}"
    first = await opened(stub, title=title)
    await stub.Resolve(resolve(first.incident_id, EXPIRED_ALERT))
    effects = await ended(stub, first.incident_id)
    postmortem = await stub.GetPostmortem(pb.GetPostmortemRequest(incident_id=first.incident_id))
    counted = await expired_alerts(connected)

    await stub.Reopen(reopen(first.incident_id))
    answer = await stub.Resolve(resolve(first.incident_id, EXPIRED_ALERT))
    assert not answer.already_resolved
    assert (answer.incident.state, answer.incident.resolution_number) == (RESOLVED, 2)

    again = await ended(stub, first.incident_id, number=2)
    assert {effect: found.state for effect, found in again.items()} == dict.fromkeys(
        EFFECTS, SideEffect.STATE_DONE
    )
    assert await ended(stub, first.incident_id) == effects

    versions = [
        (
            await stub.GetPostmortem(
                pb.GetPostmortemRequest(incident_id=first.incident_id, resolution_number=number)
            )
        ).postmortem
        for number in (0, 1, 2)
    ]
    assert [version.resolution_number for version in versions] == [2, 1, 2]
    assert versions[1] == postmortem.postmortem
    assert "it came back" in versions[2].markdown
    assert "it came back" not in versions[1].markdown

    (match,) = (
        await stub.SearchKnowledge(pb.SearchKnowledgeRequest(query=title.rsplit(maxsplit=1)[-1]))
    ).matches
    assert (match.entry.use_count, match.entry.success_count) == (2, 1)

    assert [post.headers["webhook-id"] for post in connected.posts(first.incident_id)] == [
        effects[WEBHOOK].delivery_id,
        again[WEBHOOK].delivery_id,
    ]
    assert effects[WEBHOOK].delivery_id != again[WEBHOOK].delivery_id
    assert len(connected.messages(title)) == 2
    assert await expired_alerts(connected) == counted + 1
    types = await event_types(stub, first.incident_id)
    assert types.count("RESOLVED") == 2
    assert types.count("EFFECT_DONE") == 2 * len(EFFECTS)


async def test_resolve_is_idempotent_after_a_reopening(connected: ConnectedService) -> None:
    incident = await resolved(connected.stub)
    await connected.stub.Reopen(reopen(incident.incident_id))
    answers = await asyncio.gather(
        *(connected.stub.Resolve(resolve(incident.incident_id)) for _ in range(20))
    )
    assert sum(not answer.already_resolved for answer in answers) == 1
    assert {answer.incident.resolution_number for answer in answers} == {2}
    await ended(connected.stub, incident.incident_id, number=2)
    assert (await event_types(connected.stub, incident.incident_id)).count("RESOLVED") == 2
    assert len(connected.posts(incident.incident_id)) == 2


@pytest.mark.parametrize("state", ["OPEN", "INVESTIGATING"])
async def test_an_unresolved_incident_is_not_reopened(stub: "Stub", state: str) -> None:
    incident = await opened(stub)
    if state == "INVESTIGATING":
        request = pb.StartInvestigationRequest(incident_id=incident.incident_id)
        incident = (await stub.StartInvestigation(request)).incident
    refusal = await refused(stub.Reopen(reopen(incident.incident_id)))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "INCIDENT_STATE_NOT_ALLOWED",
    )
    assert refusal.metadata == {"current_state": state, "allowed_states": "RESOLVED"}
    assert refusal.preconditions == (f"is {state}, must be one of: RESOLVED",)
    assert (await stub.Get(pb.GetRequest(incident_id=incident.incident_id))).incident == incident


async def test_an_unknown_incident_is_not_reopened(stub: "Stub") -> None:
    refusal = await refused(stub.Reopen(reopen(UNKNOWN_ID)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")


async def test_a_reopening_with_a_stale_etag_is_refused(stub: "Stub") -> None:
    incident = await opened(stub)
    await stub.Resolve(resolve(incident.incident_id))
    refusal = await refused(stub.Reopen(reopen(incident.incident_id, etag=incident.etag)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "INCIDENT_CHANGED")
    current = (await stub.Get(pb.GetRequest(incident_id=incident.incident_id))).incident
    assert (await stub.Reopen(reopen(incident.incident_id, etag=current.etag))).incident.state == OPEN


async def test_a_reopening_is_refused_when_another_unresolved_incident_has_the_fingerprint(
    stub: "Stub",
) -> None:
    fingerprint = token()
    incident = await resolved(stub, fingerprint=fingerprint)
    newer = await opened(stub, fingerprint=fingerprint)
    refusal = await refused(stub.Reopen(reopen(incident.incident_id)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FINGERPRINT_TAKEN")
    assert (await stub.Get(pb.GetRequest(incident_id=incident.incident_id))).incident == incident
    await stub.Resolve(resolve(newer.incident_id))
    await stub.Reopen(reopen(incident.incident_id))
    # From now on reports count for the reopened one.
    report = await stub.Create(create_request(fingerprint=fingerprint))
    assert (report.deduplicated, report.incident.incident_id) == (True, incident.incident_id)


async def test_reopen_is_idempotent_by_request_id(
    stub: "Stub",
) -> None:
    incident, request_id = await resolved(stub), token()
    request = reopen(incident.incident_id, request_id=request_id)
    first = await stub.Reopen(request)
    assert await stub.Reopen(request) == first
    await stub.Resolve(resolve(incident.incident_id))
    again = (await stub.Reopen(request)).incident
    assert (again.state, again.resolution_number) == (RESOLVED, 2)
    assert (await event_types(stub, incident.incident_id)).count("REOPENED") == 1


@pytest.mark.parametrize("other", ["reason", "incident_id"])
async def test_a_request_id_reused_for_another_reopening_is_refused(stub: "Stub", other: str) -> None:
    incident, another = await resolved(stub), await resolved(stub)
    request_id = token()
    await stub.Reopen(reopen(incident.incident_id, request_id=request_id))
    value = {"reason": "another", "incident_id": another.incident_id}[other]
    request = reopen(**({"incident_id": incident.incident_id, "request_id": request_id} | {other: value}))
    refusal = await refused(stub.Reopen(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert (await stub.Get(pb.GetRequest(incident_id=another.incident_id))).incident == another


async def test_of_concurrent_reopenings_one_wins(stub: "Stub") -> None:
    incident = await resolved(stub)
    calls = [stub.Reopen(reopen(incident.incident_id)) for _ in range(20)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    failures = [
        read_refusal(outcome).reason for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)
    ]
    assert failures == ["INCIDENT_STATE_NOT_ALLOWED"] * 19
    assert (await event_types(stub, incident.incident_id)).count("REOPENED") == 1


async def test_concurrent_reopenings_with_one_request_id_get_the_same_response(stub: "Stub") -> None:
    incident = await resolved(stub)
    request = reopen(incident.incident_id, request_id=token())
    answers = await asyncio.gather(*(stub.Reopen(request) for _ in range(20)))
    assert len({answer.incident.etag for answer in answers}) == 1
    assert (await event_types(stub, incident.incident_id)).count("REOPENED") == 1


async def expired_alerts(connected: ConnectedService) -> int:
    """The number of resolutions of a type that only one test uses, from the stats."""
    found = (await read_stats(connected.service.address)).resolutions.resolved_total
    return next(each.count for each in found if each.resolution_type == EXPIRED_ALERT)
