"""Callers that read nothing: their answers are bounded in bytes and time, and keep no other out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from hostile.http2 import RawConnection, raw_connection
from servicekit.rpc.admission import PlaceLimits
from servicekit.rpc.server_limits import ServerLimits
from servicekit.rpc.unsent_responses import UnsentLimits
from tests.eventually import eventually
from tests.rpc_errors import refused
from tests.servicekit.scripted_server import SERVICE, VALID, Running, scripted_server
from tests.services import TIMEOUT_SECONDS

GET = f"/{SERVICE}/Get"
WATCH = f"/{SERVICE}/Watch"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
SIZE = 100_000
NEVER = timedelta(hours=1)


async def large(_request: Any, _context: Any) -> pb.GetResponse:
    return pb.GetResponse(incident=incident_pb2.Incident(title="x" * SIZE))


async def many(_request: Any, _context: Any) -> AsyncIterator[pb.WatchResponse]:
    while True:
        yield pb.WatchResponse(incident=incident_pb2.Incident(title="x" * SIZE))


def unsent_bytes(running: Running) -> float:
    return running.registry.get_sample_value("grpc_server_unsent_bytes") or 0.0


def refusals(running: Running, limit: str) -> float:
    return running.registry.get_sample_value("grpc_server_refused_total", {"limit": limit}) or 0.0


async def until_unsent(running: Running, number: int) -> None:
    """Wait until so many large answers are unsent."""
    await eventually(
        lambda: asyncio.sleep(0, unsent_bytes(running)),
        lambda count: number * SIZE < count < (number + 1) * SIZE,
    )


async def served(running: Running) -> None:
    """A large answer and a health check arrive."""
    answer = await running.stub.Get(VALID, timeout=TIMEOUT_SECONDS)
    assert len(answer.incident.title) == SIZE
    stub: Any = HealthStub(running.channel)
    await stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)


async def connected(stack: AsyncExitStack, running: Running) -> RawConnection:
    """A caller that reads nothing: its window is 0."""
    return await stack.enter_async_context(raw_connection(running.server.address, window=0))


@pytest.mark.parametrize("path", [GET, WATCH])
async def test_an_answer_that_is_not_read_in_time_ends_with_its_connection(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    limits = ServerLimits(unsent=UnsentLimits(write_time=timedelta(milliseconds=200)))
    async with scripted_server(limits=limits) as running, AsyncExitStack() as stack:
        running.service.answer, running.service.stream = large, many
        connection = await connected(stack, running)
        for _ in range(3):
            connection.call(path, VALID.SerializeToString() if path == GET else b"")
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await connection.closed()
        assert refusals(running, "write_time") >= 1
        await served(running)
        await eventually(lambda: asyncio.sleep(0, unsent_bytes(running)), lambda count: count == 0)
        await eventually(lambda: asyncio.sleep(0, running.open_calls()), lambda count: count == 0)
    # No traceback of gRPC for each.
    assert [record for record in caplog.records if record.name.startswith("grpc")] == []


async def test_the_oldest_unread_answer_ends_for_a_new_one() -> None:
    limits = ServerLimits(unsent=UnsentLimits(total_bytes=5 * SIZE, write_time=NEVER))
    async with scripted_server(limits=limits) as running, AsyncExitStack() as stack:
        running.service.answer = large
        connections = [await connected(stack, running) for _ in range(2)]
        for number, connection in enumerate(connections):
            for _ in range(2):
                connection.call(GET, VALID.SerializeToString())
            await until_unsent(running, 2 * (number + 1))

        async def answered() -> bool:
            # Refused while the oldest is too young to be ended for another.
            stub_answers = await asyncio.gather(
                *(running.stub.Get(VALID, timeout=TIMEOUT_SECONDS) for _ in range(2)), return_exceptions=True
            )
            return all(isinstance(answer, pb.GetResponse) for answer in stub_answers)

        connections[0].call(GET, VALID.SerializeToString())
        assert await eventually(answered)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await connections[0].closed()
        assert refusals(running, "unsent_bytes") >= 1


async def test_beyond_the_bytes_a_new_answer_is_refused_when_all_others_are_young() -> None:
    limits = ServerLimits(unsent=UnsentLimits(total_bytes=SIZE * 3 // 2, write_time=NEVER))
    async with scripted_server(limits=limits) as running, AsyncExitStack() as stack:
        running.service.answer = large
        connection = await connected(stack, running)
        connection.call(GET, VALID.SerializeToString())
        await until_unsent(running, 1)
        refusal = await refused(running.stub.Get(VALID, timeout=TIMEOUT_SECONDS))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_UNSENT_BYTES")
        assert refusal.retry_after_seconds == 1


async def test_calls_whose_answer_is_not_read_hold_their_places_and_keep_no_other_call_out() -> None:
    limits = ServerLimits(calls=PlaceLimits(4, per_peer=4), unsent=UnsentLimits(write_time=NEVER))
    async with scripted_server(limits=limits) as running, AsyncExitStack() as stack:
        connection = await connected(stack, running)
        running.service.answer = large
        for _ in range(4):
            connection.call(GET, VALID.SerializeToString())
        await until_unsent(running, 4)
        assert running.open_calls() == 4

        async def answered() -> bool:
            try:
                await running.stub.Get(VALID, timeout=TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError:
                return False
            return True

        assert await eventually(answered)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await connection.closed()
        await served(running)


async def test_a_health_watch_that_is_not_read_keeps_the_status_from_no_other() -> None:
    limits = ServerLimits(unsent=UnsentLimits(write_time=NEVER))
    async with scripted_server(limits=limits) as running, AsyncExitStack() as stack:
        connection = await connected(stack, running)
        connection.call(HEALTH_WATCH, b"")
        await eventually(lambda: asyncio.sleep(0, unsent_bytes(running)), lambda count: count > 0)
        stub: Any = HealthStub(running.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await running.server.set_serving(True)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING


async def test_health_watches_that_are_not_read_leave_a_place_for_a_check() -> None:
    limits = ServerLimits(
        own_calls=PlaceLimits(3, per_peer=3, evicts_running=True), unsent=UnsentLimits(write_time=NEVER)
    )
    async with scripted_server(limits=limits) as running, AsyncExitStack() as stack:
        running.service.answer = large
        connection = await connected(stack, running)
        for _ in range(3):
            connection.call(HEALTH_WATCH, b"")
        await eventually(lambda: asyncio.sleep(0, unsent_bytes(running)), lambda count: count >= 6)
        await served(running)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await connection.closed()
