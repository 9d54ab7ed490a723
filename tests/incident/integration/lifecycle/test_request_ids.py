"""Idempotency keys belong to their caller, and every repetition of a Create gets the same response."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio

from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents, incidents_at
from tests.incident.incidents import NO_ACTION, token
from tests.incident.wire import create_request
from tests.rpc_errors import refused
from tests.services import RunningService

if TYPE_CHECKING:
    import asyncpg

    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Rows = asyncpg.Connection[asyncpg.Record]


@pytest_asyncio.fixture
async def alice(service: RunningService) -> AsyncIterator[Incidents]:
    async with incidents_at(service.address, actor="alice") as found:
        yield found


@pytest_asyncio.fixture
async def bob(service: RunningService) -> AsyncIterator[Incidents]:
    async with incidents_at(service.address, actor="bob") as found:
        yield found


async def test_a_create_with_another_callers_request_id_opens_an_incident_of_its_own(
    alice: Incidents, bob: Incidents
) -> None:
    key = token()
    first = (await alice.report(request_id=key)).incident
    other = (await bob.report(request_id=key, title="something else")).incident
    assert (other.title, other.opened_by) == ("something else", "bob")
    assert other.incident_id != first.incident_id
    assert (await alice.report(request_id=key)).incident == first
    assert (await bob.report(request_id=key, title="something else")).incident == other


async def test_a_request_id_that_an_older_version_recorded_is_matched_for_every_caller(
    alice: Incidents, rows: "Rows"
) -> None:
    key = token()
    first = (await alice.report(request_id=key)).incident
    await rows.execute("UPDATE create_requests SET actor = '' WHERE request_id = $1", key)
    assert (await alice.report(request_id=key)).incident == first


async def test_a_reopen_with_another_callers_request_id_is_a_reopen_of_its_own(
    alice: Incidents, bob: Incidents
) -> None:
    key = token()
    incident_id = (await alice.report()).incident.incident_id
    reopen: dict[str, Any] = {"incident_id": incident_id, "reason": "it is back", "request_id": key}
    await alice.resolve(incident_id, resolution_type="NO_ACTION")
    assert (await alice.reopen(**reopen)).opening == 2
    await alice.resolve(incident_id, resolution_type="NO_ACTION")
    assert (await alice.reopen(**reopen)).opening == 2, "a repetition reopens nothing"
    assert (await bob.reopen(**reopen)).opening == 3


@pytest.mark.parametrize("resolved", [False, True], ids=["open", "resolved"])
async def test_a_repeated_create_whose_incident_id_was_deduplicated_is_idempotent(
    incidents: Incidents, stub: "IncidentServiceAsyncStub", rows: "Rows", resolved: bool
) -> None:
    fingerprint = token()
    first = await incidents.opened(fingerprint=fingerprint)
    wanted = f"INC-20260507-{token()[:12].upper()}"
    # Without a request_id, which every client sends.
    again = create_request(fingerprint=fingerprint, incident_id=wanted)
    response = await stub.Create(again)
    assert (response.deduplicated, response.incident.incident_id) == (True, first.incident_id)
    if resolved:
        await incidents.resolve(first.incident_id, resolution_type=NO_ACTION)
    before = await incidents.get(first.incident_id)
    repeated = await stub.Create(again)
    assert (repeated.deduplicated, repeated.incident) == (True, before)
    assert await rows.fetchval("SELECT count(*) FROM incidents WHERE fingerprint = $1", fingerprint) == 1
    changed = create_request(fingerprint=fingerprint, incident_id=wanted, title="something else")
    assert (await refused(stub.Create(changed))).code is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("event_id", ["APR-20260507-99ADF2/1/approved", "service:incident/x", "service:x"])
async def test_event_ids_of_services_cannot_be_taken_by_other_callers(
    alice: Incidents, event_id: str
) -> None:
    incident_id = (await alice.report()).incident.incident_id
    found = await refused(
        alice.add_event(
            incident_id, event_id=event_id, type=incident_pb2.IncidentEvent.TYPE_NOTE, summary="mine"
        )
    )
    assert (found.code, found.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("event_id",))
