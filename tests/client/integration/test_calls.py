"""One call: its deadline, its attempts, its metadata, and what comes of bad answers."""

import asyncio
import time
from datetime import timedelta

import grpc
import grpc.aio
import pytest

from awoooi.client import (
    NO_RETRIES,
    AbortedError,
    CallError,
    DeadlineExceededError,
    IncidentClient,
    InvalidResponseError,
    RetryPolicy,
    SyncIncidentClient,
    UnavailableError,
    open_channel,
    open_sync_channel,
)
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.client.either_kind import Kind, approval_client, incident_client
from tests.client.scripted_server import ScriptedServer, hang, refuse, reply

ID = "INC-20260507-99ADF2"
FOUND = pb.GetResponse(incident=incident_pb2.Incident(incident_id=ID))
QUICK = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
UNAVAILABLE = refuse(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")


async def test_unavailable_is_retried_until_there_is_a_response(kind: Kind, server: ScriptedServer) -> None:
    server.script(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, reply(FOUND))
    async with incident_client(kind, server.address, retry=QUICK) as incidents:
        assert (await incidents.call("get", ID)).incident_id == ID
    assert [call.method for call in server.calls] == ["awoooi.incident.v1.IncidentService/Get"] * 4


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
    ],
    ids=lambda code: code.name,
)
async def test_no_other_code_is_retried(kind: Kind, server: ScriptedServer, code: grpc.StatusCode) -> None:
    server.script(refuse(code), reply(FOUND))
    async with incident_client(kind, server.address, retry=QUICK) as incidents:
        with pytest.raises(CallError) as caught:
            await incidents.call("get", ID)
    assert (caught.value.code, caught.value.reason) == (code, "SCRIPTED")
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert len(server.calls) == 1


async def test_a_retry_sends_the_same_request_id_and_another_call_another_one(
    kind: Kind, server: ScriptedServer
) -> None:
    server.script(UNAVAILABLE, UNAVAILABLE, reply())
    async with incident_client(kind, server.address, retry=QUICK) as incidents:
        await incidents.call("create", title="disk full", severity="HIGH")
        await incidents.call("create", title="disk full", severity="HIGH")
    ids = [request.request_id for request in server.requests(pb.CreateRequest.FromString)]
    assert ids[0] == ids[1] == ids[2] != ids[3]


async def test_an_execution_that_resumes_what_is_indeterminate_is_never_retried(
    kind: Kind, server: ScriptedServer
) -> None:
    server.script(UNAVAILABLE, reply())
    async with approval_client(kind, server.address, retry=QUICK) as approvals:
        with pytest.raises(UnavailableError):
            await approvals.call("execute", "APR-20260507-99ADF2", resume_indeterminate=True)
        assert len(server.calls) == 1
        server.script(UNAVAILABLE, reply())
        await approvals.call("execute", "APR-20260507-99ADF2")
        assert len(server.calls) == 2


async def test_all_attempts_share_the_deadline_of_the_call(kind: Kind, server: ScriptedServer) -> None:
    server.script(UNAVAILABLE)
    async with incident_client(kind, server.address, retry=RetryPolicy(max_backoff=0.1)) as incidents:
        # Which of the two depends on whether the time runs out in an attempt or before one.
        with pytest.raises((UnavailableError, DeadlineExceededError)):
            await incidents.call("get", ID, timeout=2)
    remaining = [call.remaining or 0.0 for call in server.calls]
    assert len(remaining) > 2
    assert remaining[0] <= 2
    assert remaining[-1] < remaining[0] / 2, "a later attempt has less time"


async def test_a_server_that_does_not_answer_costs_the_timeout_and_is_not_called_again(
    kind: Kind, server: ScriptedServer
) -> None:
    server.script(hang)
    started = time.monotonic()
    async with incident_client(kind, server.address, retry=QUICK, timeout=1.5) as incidents:
        with pytest.raises(DeadlineExceededError):
            await incidents.call("get", ID)
    assert time.monotonic() - started > 1.4
    assert len(server.calls) == 1


async def test_retry_info_is_honoured(kind: Kind, server: ScriptedServer) -> None:
    later = refuse(grpc.StatusCode.UNAVAILABLE, retry_after=timedelta(seconds=0.3))
    server.script(later, reply(FOUND))
    started = time.monotonic()
    async with incident_client(kind, server.address, retry=QUICK) as incidents:
        await incidents.call("get", ID)
    assert time.monotonic() - started >= 0.3
    server.script(refuse(grpc.StatusCode.UNAVAILABLE, retry_after=timedelta(hours=1)), reply(FOUND))
    async with incident_client(kind, server.address, retry=QUICK) as incidents:
        with pytest.raises(UnavailableError) as caught:
            await incidents.call("get", ID)
    assert caught.value.retry_delay == 3600.0
    assert len(server.calls) == 1


async def test_options_are_the_calls_own_or_else_the_clients(kind: Kind, server: ScriptedServer) -> None:
    async with incident_client(kind, server.address, actor="alice", timeout=50) as incidents:
        await incidents.call("get", ID)
        await incidents.call("get", ID, actor="bob", timeout=20)
        await incidents.call("get", ID, actor="")
        server.unary = [UNAVAILABLE]
        with pytest.raises(UnavailableError):
            await incidents.call("get", ID, retry=NO_RETRIES)
    assert [call.metadata.get("awoooi-actor") for call in server.calls] == ["alice", "bob", None, "alice"]
    assert [round(call.remaining or 0, -1) for call in server.calls] == [50, 20, 50, 50]


async def test_every_call_has_a_deadline(kind: Kind, server: ScriptedServer) -> None:
    async with incident_client(kind, server.address) as incidents:
        await incidents.call("get", ID)
        await incidents.page("list")
    assert [9 < (call.remaining or 0) < 11 for call in server.calls] == [True, True]


async def test_a_response_that_cannot_be_parsed_is_an_error(kind: Kind, server: ScriptedServer) -> None:
    server.script(reply(b"\xff\xff\xff"))
    async with incident_client(kind, server.address, retry=QUICK) as incidents:
        with pytest.raises(InvalidResponseError) as caught:
            await incidents.call("get", ID)
        with pytest.raises(InvalidResponseError):
            await incidents.page("list")
    assert (caught.value.code, caught.value.method) == (
        grpc.StatusCode.INTERNAL,
        "awoooi.incident.v1.IncidentService/Get",
    )
    assert len(server.calls) == 2


async def test_a_server_that_is_not_there_is_unavailable(kind: Kind) -> None:
    async with incident_client(kind, "127.0.0.1:1", timeout=0.5) as incidents:
        with pytest.raises(UnavailableError) as caught:
            await incidents.call("get", ID)
    assert caught.value.reason == ""


async def test_aborted_is_for_the_caller_to_decide(kind: Kind, server: ScriptedServer) -> None:
    server.script(refuse(grpc.StatusCode.ABORTED, "INCIDENT_CHANGED"))
    async with incident_client(kind, server.address) as incidents:
        with pytest.raises(AbortedError) as caught:
            await incidents.call("resolve", ID, resolution_type="HUMAN", etag="1")
    assert caught.value.reason == "INCIDENT_CHANGED"


async def test_a_list_of_addresses_is_called_in_turn(kind: Kind, server: ScriptedServer) -> None:
    async with incident_client(kind, f"ipv4:127.0.0.1:1,{server.address}") as incidents:
        for _ in range(3):
            await incidents.call("get", ID)
    assert len(server.calls) == 3


async def test_async_clients_share_a_channel_that_stays_open(server: ScriptedServer) -> None:
    async with open_channel(server.address) as channel:
        async with IncidentClient(channel) as first:
            await first.get(ID)
        await IncidentClient(channel).get(ID)
    with pytest.raises(grpc.aio.UsageError):
        await IncidentClient(channel).get(ID)


async def test_sync_clients_share_a_channel_that_stays_open(server: ScriptedServer) -> None:
    with open_sync_channel(server.address) as channel:
        with SyncIncidentClient(channel) as first:
            await asyncio.to_thread(first.get, ID)
        await asyncio.to_thread(SyncIncidentClient(channel).get, ID)


async def test_threads_share_a_sync_client(server: ScriptedServer) -> None:
    with SyncIncidentClient(server.address) as incidents:
        await asyncio.gather(*(asyncio.to_thread(incidents.get, ID) for _ in range(20)))
    assert len(server.calls) == 20


def test_an_async_client_may_be_made_where_no_event_loop_runs() -> None:
    incidents = IncidentClient("127.0.0.1:1", timeout=0.2)
    with pytest.raises(UnavailableError):
        asyncio.run(incidents.get(ID))


async def test_a_cancelled_call_is_cancelled_at_the_server(server: ScriptedServer) -> None:
    gone = asyncio.Event()

    async def waits(_request: bytes, _context: object) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    server.script(waits)
    async with IncidentClient(server.address) as incidents:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await incidents.get(ID)
        async with asyncio.timeout(10):
            await gone.wait()
