"""Idempotency keys belong to their caller, and every repetition of a Create gets the same response."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.incident.incidents import NO_ACTION, incident_stub, token
from tests.rpc_errors import refused
from tests.services import RunningService

if TYPE_CHECKING:
    import asyncpg

    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub as Stub

    Rows = asyncpg.Connection[asyncpg.Record]


@pytest_asyncio.fixture
async def alice(service: RunningService) -> "AsyncIterator[Stub]":
    async with incident_stub(service.address, actor="alice") as stub:
        yield stub


@pytest_asyncio.fixture
async def bob(service: RunningService) -> "AsyncIterator[Stub]":
    async with incident_stub(service.address, actor="bob") as stub:
        yield stub


def create_request(**fields: Any) -> pb.CreateRequest:
    usual: dict[str, Any] = {"title": "disk full", "severity": incident_pb2.SEVERITY_HIGH}
    return pb.CreateRequest(**usual | fields)


async def test_a_create_with_another_callers_request_id_opens_an_incident_of_its_own(
    alice: "Stub", bob: "Stub"
) -> None:
    key = token()
    first = (await alice.Create(create_request(request_id=key))).incident
    other = (await bob.Create(create_request(request_id=key, title="something else"))).incident
    assert (other.title, other.opened_by) == ("something else", "bob")
    assert other.incident_id != first.incident_id
    assert (await alice.Create(create_request(request_id=key))).incident == first
    assert (await bob.Create(create_request(request_id=key, title="something else"))).incident == other


async def test_a_request_id_that_an_older_version_recorded_is_matched_for_every_caller(
    alice: "Stub", rows: "Rows"
) -> None:
    key = token()
    first = (await alice.Create(create_request(request_id=key))).incident
    await rows.execute("UPDATE create_requests SET actor = '' WHERE request_id = $1", key)
    assert (await alice.Create(create_request(request_id=key))).incident == first


async def test_a_reopen_with_another_callers_request_id_is_a_reopen_of_its_own(
    alice: "Stub", bob: "Stub"
) -> None:
    key = token()
    incident_id = (await alice.Create(create_request())).incident.incident_id
    resolve = pb.ResolveRequest(incident_id=incident_id, resolution_type=NO_ACTION)
    reopen = pb.ReopenRequest(incident_id=incident_id, reason="it is back", request_id=key)
    await alice.Resolve(resolve)
    assert (await alice.Reopen(reopen)).incident.opening == 2
    await alice.Resolve(resolve)
    assert (await alice.Reopen(reopen)).incident.opening == 2, "a repetition reopens nothing"
    assert (await bob.Reopen(reopen)).incident.opening == 3


@pytest.mark.parametrize("resolved", [False, True], ids=["open", "resolved"])
async def test_a_repeated_create_whose_incident_id_was_deduplicated_is_idempotent(
    alice: "Stub", rows: "Rows", resolved: bool
) -> None:
    fingerprint = token()
    first = (await alice.Create(create_request(fingerprint=fingerprint))).incident
    wanted = f"INC-20260507-{token()[:12].upper()}"
    again = create_request(fingerprint=fingerprint, incident_id=wanted)
    response = await alice.Create(again)
    assert (response.deduplicated, response.incident.incident_id) == (True, first.incident_id)
    if resolved:
        await alice.Resolve(pb.ResolveRequest(incident_id=first.incident_id, resolution_type=NO_ACTION))
    before = (await alice.Get(pb.GetRequest(incident_id=first.incident_id))).incident
    repeated = await alice.Create(again)
    assert (repeated.deduplicated, repeated.incident) == (True, before)
    assert await rows.fetchval("SELECT count(*) FROM incidents WHERE fingerprint = $1", fingerprint) == 1
    changed = create_request(fingerprint=fingerprint, incident_id=wanted, title="something else")
    assert (await refused(alice.Create(changed))).code is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("event_id", ["APR-20260507-99ADF2/1/approved", "service:incident/x", "service:x"])
async def test_event_ids_of_services_cannot_be_taken_by_other_callers(alice: "Stub", event_id: str) -> None:
    incident_id = (await alice.Create(create_request())).incident.incident_id
    request = pb.AddEventRequest(
        event_id=event_id, incident_id=incident_id, type=incident_pb2.IncidentEvent.TYPE_NOTE, summary="mine"
    )
    found = await refused(alice.AddEvent(request))
    assert (found.code, found.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("event_id",))
