"""Watch over the ends of connections: it continues after the latest token, and says so when it cannot."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import grpc
import grpc.aio
import pytest

from awoooi.client import (
    NO_RETRIES,
    DeadlineExceededError,
    IncidentClient,
    InvalidResponseError,
    ResourceExhaustedError,
    RetryPolicy,
    SyncIncidentClient,
    UnavailableError,
)
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.rpc.status_details import RpcStatus
from tests.client.either_kind import Kind, incident_client
from tests.client.scripted_server import ScriptedServer, stream

QUICK = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
DOWN = RpcStatus(grpc.StatusCode.UNAVAILABLE, "stopping", "WATCH_ENDED")
SLOW = RpcStatus(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow", "WATCHER_TOO_SLOW")


def change(number: int) -> pb.WatchResponse:
    """A change, and its token."""
    return pb.WatchResponse(
        incident=incident_pb2.Incident(incident_id="INC-20260507-99ADF2"),
        event=incident_pb2.IncidentEvent(event_id=str(number)),
        resume_token=f"t{number}",
    )


def heartbeat(token: str) -> pb.WatchResponse:
    """A response with nothing but a token."""
    return pb.WatchResponse(resume_token=token)


EXISTING = pb.WatchResponse(incident=incident_pb2.Incident(incident_id="INC-20260507-99ADF2"))


def tokens(server: ScriptedServer) -> Sequence[str]:
    """With which token each stream was opened."""
    return [request.resume_token for request in server.requests(pb.WatchRequest.FromString)]


async def test_it_resumes_after_unavailable_with_the_latest_token_and_the_same_filters(
    kind: Kind, server: ScriptedServer
) -> None:
    server.script_streams(
        stream(heartbeat("t0"), change(1), change(2), end=DOWN),
        stream(end=DOWN),
        stream(heartbeat("t2"), change(3), heartbeat("t9"), end=DOWN),
        stream(heartbeat("t9"), change(10), stay=True),
    )
    async with incident_client(kind, server.address, retry=QUICK, actor="alice") as incidents:
        watch = incidents.watch(states=["OPEN"])
        came = [(await watch.next()).event.event_id for _ in range(4)]
        watch.close()
    assert came == ["1", "2", "3", "10"]
    assert tokens(server) == ["", "t2", "t2", "t9"]
    assert {call.metadata["awoooi-actor"] for call in server.calls} == {"alice"}
    for request in server.requests(pb.WatchRequest.FromString):
        assert list(request.states) == [incident_pb2.Incident.STATE_OPEN]


async def test_a_stream_that_a_server_ends_well_is_resumed_too(kind: Kind, server: ScriptedServer) -> None:
    server.script_streams(stream(change(1)), stream(change(2), stay=True))
    async with incident_client(kind, server.address, retry=QUICK) as incidents:
        watch = incidents.watch()
        assert [(await watch.next()).event.event_id for _ in range(2)] == ["1", "2"]
        watch.close()
    assert tokens(server) == ["", "t1"]


async def test_it_begins_after_a_token_that_the_caller_kept(kind: Kind, server: ScriptedServer) -> None:
    server.script_streams(stream(end=DOWN), stream(change(8), stay=True))
    async with incident_client(kind, server.address, retry=QUICK) as incidents:
        watch = incidents.watch(resume_token="t7")
        assert watch.resume_token == "t7"
        await watch.next()
        assert watch.resume_token == "t8"
        watch.close()
    assert tokens(server) == ["t7", "t7"]


async def test_heartbeats_come_to_who_asks_for_them(kind: Kind, server: ScriptedServer) -> None:
    server.script_streams(stream(heartbeat("t0"), change(1), heartbeat("t5"), stay=True))
    async with incident_client(kind, server.address) as incidents:
        watch = incidents.watch(heartbeats=True)
        assert [(await watch.next()).resume_token for _ in range(3)] == ["t0", "t1", "t5"]
        watch.close()


async def test_other_errors_are_raised_and_the_next_iteration_continues(
    kind: Kind, server: ScriptedServer
) -> None:
    server.script_streams(stream(change(1), end=SLOW), stream(change(2), stay=True))
    async with incident_client(kind, server.address, retry=QUICK) as incidents:
        watch = incidents.watch()
        await watch.next()
        with pytest.raises(ResourceExhaustedError) as caught:
            await watch.next()
        assert caught.value.reason == "WATCHER_TOO_SLOW"
        assert watch.resume_token == "t1"
        assert (await watch.next()).event.event_id == "2"
        watch.close()
    assert tokens(server) == ["", "t1"]


async def test_a_break_among_existing_incidents_is_raised_since_it_cannot_be_resumed(
    kind: Kind, server: ScriptedServer
) -> None:
    server.script_streams(
        stream(EXISTING, end=DOWN), stream(EXISTING, heartbeat("t0"), end=DOWN), stream(change(1), stay=True)
    )
    async with incident_client(kind, server.address, retry=QUICK) as incidents:
        watch = incidents.watch(include_existing=True)
        await watch.next()
        with pytest.raises(UnavailableError) as caught:
            await watch.next()
        assert caught.value.reason == "WATCH_ENDED"
        # Anew; and once the token is there, without a word again.
        assert not (await watch.next()).HasField("event")
        assert (await watch.next()).event.event_id == "1"
        watch.close()
    assert tokens(server) == ["", "", "t0"]


async def test_a_server_that_stays_away_is_unavailable_after_the_timeout(
    kind: Kind, server: ScriptedServer
) -> None:
    server.script_streams(stream(change(1), end=DOWN), stream(end=DOWN))
    async with incident_client(kind, server.address) as incidents:
        watch = incidents.watch(timeout=1.5)
        await watch.next()
        with pytest.raises(UnavailableError):
            await watch.next()
        server.script_streams(stream(change(2), stay=True))
        assert (await watch.next()).event.event_id == "2", "the caller goes on when it wants to"
        watch.close()
    assert tokens(server) == ["t1"]


async def test_a_stream_that_does_not_begin_costs_the_timeout(kind: Kind, server: ScriptedServer) -> None:
    server.script_streams(stream(stay=True))
    async with incident_client(kind, server.address) as incidents:
        watch = incidents.watch(timeout=1.5)
        with pytest.raises(DeadlineExceededError):
            await watch.next()
        async with asyncio.timeout(10):
            await server.ended.acquire()
    assert len(server.calls) == 1


async def test_an_open_stream_has_no_deadline(kind: Kind, server: ScriptedServer) -> None:
    async def late(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        yield heartbeat("t0").SerializeToString()
        await asyncio.sleep(1.7)
        yield change(1).SerializeToString()

    server.script_streams(late)
    async with incident_client(kind, server.address, timeout=1.5) as incidents:
        watch = incidents.watch()
        assert (await watch.next()).event.event_id == "1"
        watch.close()
    assert [call.remaining for call in server.calls] == [None]


async def test_without_retries_it_is_not_resumed(kind: Kind, server: ScriptedServer) -> None:
    server.script_streams(stream(change(1), end=DOWN), stream(change(2), stay=True))
    async with incident_client(kind, server.address, retry=NO_RETRIES) as incidents:
        watch = incidents.watch()
        await watch.next()
        with pytest.raises(UnavailableError):
            await watch.next()
        assert len(server.calls) == 1
        watch.close()


async def test_retry_info_is_honoured(kind: Kind, server: ScriptedServer) -> None:
    later = RpcStatus(grpc.StatusCode.UNAVAILABLE, "later", "DRAINING", retry_after=timedelta(seconds=0.3))
    server.script_streams(stream(change(1), end=later), stream(change(2), stay=True))
    async with incident_client(kind, server.address, retry=QUICK) as incidents:
        watch = incidents.watch()
        await watch.next()
        started = time.monotonic()
        await watch.next()
        assert time.monotonic() - started >= 0.3
        watch.close()


async def test_a_response_that_cannot_be_parsed_is_an_error(kind: Kind, server: ScriptedServer) -> None:
    server.script_streams(stream(change(1), b"\xff\xff", stay=True))
    async with incident_client(kind, server.address) as incidents:
        watch = incidents.watch()
        await watch.next()
        with pytest.raises(InvalidResponseError):
            await watch.next()
        async with asyncio.timeout(10):
            await server.ended.acquire()


async def test_closing_ends_the_iteration_and_the_stream(kind: Kind, server: ScriptedServer) -> None:
    server.script_streams(stream(change(1), stay=True))
    async with incident_client(kind, server.address) as incidents:
        watch = incidents.watch()
        await watch.next()
        waiting = asyncio.ensure_future(watch.next())
        await asyncio.sleep(0)  # it begins to read
        watch.close()
        for ended in (waiting, watch.next()):
            with pytest.raises(StopAsyncIteration):
                await ended
        async with asyncio.timeout(10):
            await server.ended.acquire()


async def test_closing_ends_a_backoff(server: ScriptedServer) -> None:
    later = RpcStatus(grpc.StatusCode.UNAVAILABLE, "later", "DRAINING", retry_after=timedelta(seconds=60))
    server.script_streams(stream(end=later))
    with SyncIncidentClient(server.address, timeout=600) as incidents:
        watch = incidents.watch()
        iterating = threading.Thread(target=lambda: list(watch))
        iterating.start()
        async with asyncio.timeout(10):
            await server.ended.acquire()
        watch.close()
        await asyncio.to_thread(iterating.join, 10)
        assert not iterating.is_alive()


async def test_a_caller_that_stops_waiting_loses_neither_stream_nor_response(server: ScriptedServer) -> None:
    may_send = asyncio.Event()

    async def when_told(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        yield change(1).SerializeToString()
        await may_send.wait()
        yield change(2).SerializeToString()
        await asyncio.Event().wait()

    server.script_streams(when_told)
    async with IncidentClient(server.address) as incidents, incidents.watch() as watch:
        await anext(watch)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(watch)
        may_send.set()
        assert (await anext(watch)).event.event_id == "2"
    assert len(server.calls) == 1


async def test_a_loop_that_is_left_ends_the_stream(server: ScriptedServer) -> None:
    server.script_streams(stream(change(1), stay=True))
    async with IncidentClient(server.address) as incidents:
        async for _ in incidents.watch():
            break
        with pytest.raises(TimeoutError):
            await _watch_until_timeout(incidents)
        gc.collect()
        async with asyncio.timeout(10):
            await server.ended.acquire()
            await server.ended.acquire()


async def _watch_until_timeout(incidents: IncidentClient) -> None:
    async with asyncio.timeout(0.2):
        async for _ in incidents.watch():
            pass


async def test_a_sync_loop_that_is_left_ends_the_stream(server: ScriptedServer) -> None:
    server.script_streams(stream(change(1), stay=True))

    def first(incidents: SyncIncidentClient) -> None:
        for _ in incidents.watch():
            break

    with SyncIncidentClient(server.address) as incidents:
        await asyncio.to_thread(first, incidents)
        gc.collect()
        async with asyncio.timeout(10):
            await server.ended.acquire()
