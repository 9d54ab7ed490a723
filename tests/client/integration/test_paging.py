"""Lists: every item, every page, one page."""

import grpc
import pytest

from awoooi.client import IncidentClient, SyncIncidentClient, UnavailableError
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.client.either_kind import Kind, incident_client
from tests.client.scripted_server import ScriptedServer, refuse, reply


def page(*ids: str, next_page_token: str = "") -> pb.ListResponse:
    """A page of incidents."""
    return pb.ListResponse(
        incidents=[incident_pb2.Incident(incident_id=each) for each in ids], next_page_token=next_page_token
    )


# An empty page in the middle is allowed by the contract.
PAGES = [page("1", "2", next_page_token="a"), page(next_page_token="b"), page("3")]


async def test_items_come_over_all_pages(kind: Kind, server: ScriptedServer) -> None:
    server.script(*map(reply, PAGES))
    async with incident_client(kind, server.address) as incidents:
        found = await incidents.items("list", states=["OPEN"], page_size=2)
    assert [incident.incident_id for incident in found] == ["1", "2", "3"]
    requests = server.requests(pb.ListRequest.FromString)
    assert [request.page_token for request in requests] == ["", "a", "b"]
    for request in requests:
        request.ClearField("page_token")
    assert (
        requests[0]
        == requests[1]
        == requests[2]
        == pb.ListRequest(states=[incident_pb2.Incident.STATE_OPEN], page_size=2)
    )


async def test_pages_come_one_by_one(kind: Kind, server: ScriptedServer) -> None:
    server.script(*map(reply, PAGES))
    async with incident_client(kind, server.address) as incidents:
        assert await incidents.pages("list") == PAGES


async def test_one_page_is_one_call(kind: Kind, server: ScriptedServer) -> None:
    server.script(reply(PAGES[0]))
    async with incident_client(kind, server.address) as incidents:
        assert await incidents.page("list", page_token="x") == PAGES[0]
    assert [request.page_token for request in server.requests(pb.ListRequest.FromString)] == ["x"]


async def test_iteration_begins_where_the_page_token_says(kind: Kind, server: ScriptedServer) -> None:
    server.script(*map(reply, PAGES[1:]))
    async with incident_client(kind, server.address) as incidents:
        await incidents.items("list", page_token="a")
    assert [request.page_token for request in server.requests(pb.ListRequest.FromString)] == ["a", "b"]


async def test_a_page_is_retried_without_losing_or_repeating_items(
    kind: Kind, server: ScriptedServer
) -> None:
    unavailable = refuse(grpc.StatusCode.UNAVAILABLE)
    server.script(reply(PAGES[0]), unavailable, reply(PAGES[1]), unavailable, reply(PAGES[2]))
    async with incident_client(kind, server.address) as incidents:
        found = await incidents.items("list")
    assert [incident.incident_id for incident in found] == ["1", "2", "3"]


async def test_pages_are_fetched_as_they_are_needed(server: ScriptedServer) -> None:
    server.script(*map(reply, PAGES))
    async with IncidentClient(server.address) as incidents:
        async for incident in incidents.list():
            assert incident.incident_id == "1"
            break
    assert len(server.calls) == 1


async def test_each_iteration_begins_anew(server: ScriptedServer) -> None:
    server.script(*map(reply, [*PAGES, *PAGES]))
    async with IncidentClient(server.address) as incidents:
        listed = incidents.list()
        first = [incident.incident_id async for incident in listed]
        assert first == [incident.incident_id async for incident in listed] == ["1", "2", "3"]


def test_nothing_is_called_before_the_first_item() -> None:
    with SyncIncidentClient("127.0.0.1:1", timeout=0.2) as incidents:
        listed = incidents.list()
        with pytest.raises(UnavailableError):
            listed.page()
