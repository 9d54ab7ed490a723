"""The calls to the incident service: which failures are retried, dead-lettered or dropped."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from approval.delivery.client import IncidentClient
from approval.delivery.model import (
    FoundIncident,
    IncidentCheck,
    ResolutionType,
    ResolveIntent,
    TimelineEntry,
    TimelineEvent,
)
from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.outbox.delivery_outcome import RpcFailedError
from servicekit.outbox.handler import PermanentError, UnreachableError
from tests.client.scripted_server import ScriptedServer, refuse, reply, scripted_server

ID = "INC-20260507-99ADF2"
EXECUTED = datetime(2026, 5, 7, 12, tzinfo=UTC)
RESOLVE = ResolveIntent("APR-20260507-99ADF2", ID, ResolutionType.NO_ACTION, "NO_ACTION", 2, EXECUTED)
ENTRY = TimelineEntry("APR-20260507-99ADF2/EXECUTED", ID, TimelineEvent.EXECUTED, EXECUTED, "done", {})
UNPARSABLE = reply(b"\xff\xff\xff")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as running:
        yield running


@pytest_asyncio.fixture
async def incidents(server: ScriptedServer) -> AsyncIterator[IncidentClient]:
    second = timedelta(seconds=1)
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield IncidentClient(channel, check_timeout=second, resolve_timeout=second)


async def test_a_response_that_cannot_be_parsed_is_retried(
    server: ScriptedServer, incidents: IncidentClient
) -> None:
    server.script(UNPARSABLE)
    assert await incidents.find(ID) == FoundIncident(IncidentCheck.UNREACHABLE)
    for count in (1, 2):
        errors = await incidents.resolve([RESOLVE] * count)
        assert [type(error) for error in errors] == [RpcFailedError] * count
    assert isinstance(await incidents.add_event(ENTRY), RpcFailedError)


async def test_a_batch_with_another_number_of_results_is_retried_as_a_whole(
    server: ScriptedServer, incidents: IncidentClient
) -> None:
    server.script(reply(pb.BatchResolveResponse(results=[pb.BatchResolveResponse.Result(incident_id=ID)])))
    errors = await incidents.resolve([RESOLVE, RESOLVE])
    assert [type(error) for error in errors] == [RpcFailedError, RpcFailedError]


async def test_an_event_of_an_unknown_incident_is_dropped(
    server: ScriptedServer, incidents: IncidentClient
) -> None:
    server.script(refuse(grpc.StatusCode.NOT_FOUND))
    assert await incidents.add_event(ENTRY) is None
    assert await incidents.find(ID) == FoundIncident(IncidentCheck.UNKNOWN)


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS])
async def test_what_cannot_heal_is_permanent(
    server: ScriptedServer, incidents: IncidentClient, code: grpc.StatusCode
) -> None:
    server.script(refuse(code))
    error = await incidents.add_event(ENTRY)
    assert isinstance(error, PermanentError)
    assert str(error) == f"{code.name}: scripted"


async def test_an_entry_whose_id_is_taken_has_the_same_other_id_at_every_attempt(
    server: ScriptedServer, incidents: IncidentClient
) -> None:
    server.script(refuse(grpc.StatusCode.ALREADY_EXISTS))
    other = replace(ENTRY, summary="of another database")
    for entry in (ENTRY, ENTRY, other):
        await incidents.add_event(entry)
    ids = [pb.AddEventRequest.FromString(call.request).event_id for call in server.calls]
    assert ids[0] == ids[2] == ids[4] == ENTRY.event_id
    assert ids[1] == ids[3] != ids[5]
    assert all(each.startswith(f"{ENTRY.event_id}/") for each in (ids[1], ids[5]))


async def test_a_call_is_made_once_by_the_approval_service(
    server: ScriptedServer, incidents: IncidentClient
) -> None:
    server.script(refuse(grpc.StatusCode.UNAVAILABLE))
    assert isinstance(await incidents.add_event(ENTRY), UnreachableError)
    assert [call.metadata["awoooi-actor"] for call in server.calls] == ["service:approval"]


async def test_the_opening_and_the_time_of_the_execution_are_sent(
    server: ScriptedServer, incidents: IncidentClient
) -> None:
    server.script(reply())
    await incidents.resolve([RESOLVE])
    await incidents.resolve([RESOLVE, RESOLVE])
    one, batch = [call.request for call in server.calls]
    sent: list[pb.ResolveRequest | pb.BatchResolveRequest.Item] = [pb.ResolveRequest.FromString(one)]
    sent += pb.BatchResolveRequest.FromString(batch).items
    assert len(sent) == 3
    for each in sent:
        assert (each.incident_id, each.opening) == (ID, 2)
        assert each.execute_time.ToDatetime(tzinfo=UTC) == EXECUTED


async def test_resolves_that_are_together_too_long_for_a_message_are_sent_in_several(
    server: ScriptedServer, incidents: IncidentClient
) -> None:
    server.script(reply())
    approved = replace(ENTRY, summary="x" * 8192)
    resolves = [
        replace(RESOLVE, incident_id=f"INC-20260507-{number:06X}", entries=[approved] * 3)
        for number in range(100)
    ]
    assert len(await incidents.resolve(resolves)) == 100
    sent = [call.request for call in server.calls]
    assert len(sent) == 3
    assert max(map(len, sent)) < 1 << 20
    items = [item for request in sent for item in pb.BatchResolveRequest.FromString(request).items]
    assert sorted(item.incident_id for item in items) == [each.incident_id for each in resolves]
    assert {len(item.approval_events) for item in items} == {3}
