"""What gRPC keeps without calling a handler is bounded: headers without end, messages without their last byte."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from hostile.http2 import (
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    RawConnection,
    call_headers,
    field,
    frame,
    raw_connection,
)
from servicekit.rpc.received_bytes import ReceivedLimits
from servicekit.rpc.server_limits import ServerLimits
from tests.eventually import eventually
from tests.servicekit.scripted_server import SERVICE, VALID, scripted_server
from tests.services import TIMEOUT_SECONDS

GET = f"/{SERVICE}/Get"
SMALL = ServerLimits(
    request_time=timedelta(hours=1),
    received=ReceivedLimits(
        idle_bytes=1 << 20, connection_bytes=1 << 20, look_every=timedelta(milliseconds=20)
    ),
)


async def endless_headers(connection: RawConnection) -> None:
    connection.answers = False
    connection.send(frame(HEADERS, 0, 1, call_headers(GET)))
    while True:
        connection.send(frame(CONTINUATION, 0, 1, field("a", "b" * 120) * 100))
        await connection.drain()
        await asyncio.sleep(0)


async def half_messages(connection: RawConnection) -> None:
    size = 1_000_000
    half = b"\0" + size.to_bytes(4) + b"x" * (size - 1)
    streams = [connection.call(GET, None) for _ in range(10)]
    await asyncio.gather(*(connection.send_data(stream, half) for stream in streams))
    await asyncio.Event().wait()


@pytest.mark.parametrize("attack", [endless_headers, half_messages])
async def test_a_connection_that_sends_no_calls_is_closed(
    attack: Callable[[RawConnection], Awaitable[None]],
) -> None:
    async with scripted_server(limits=SMALL) as running, raw_connection(running.server.address) as connection:
        attacking = asyncio.ensure_future(attack(connection))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await connection.closed()
        attacking.cancel()
        labels = {"limit": "received_bytes_per_connection"}
        assert running.registry.get_sample_value("grpc_server_refused_total", labels) == 1
        assert await running.stub.Get(VALID, timeout=TIMEOUT_SECONDS) == pb.GetResponse()


async def test_many_large_requests_are_no_flood() -> None:
    async with scripted_server(limits=SMALL) as running:
        large = pb.GetRequest(incident_id="x" * 500_000)
        for _ in range(20):
            # Refused by its content, after it was read.
            with pytest.raises(Exception, match="invalid argument"):
                await running.stub.Get(large, timeout=TIMEOUT_SECONDS)
        labels = {"limit": "received_bytes_per_connection"}
        assert running.registry.get_sample_value("grpc_server_refused_total", labels) == 0


async def test_a_call_with_more_metadata_than_the_limit_reaches_no_layer() -> None:
    # Over several frames: gRPC's own limit is one of each frame.
    part = field("a", "b" * 120) * 50
    async with scripted_server() as running, raw_connection(running.server.address) as connection:
        connection.send(frame(HEADERS, 0, 1, call_headers(GET)))
        for number in range(20):
            connection.send(frame(CONTINUATION, END_HEADERS if number == 19 else 0, 1, part))
        await connection.drain()

        labels = {"limit": "metadata"}
        await eventually(
            lambda: asyncio.sleep(0, running.registry.get_sample_value("grpc_server_refused_total", labels)),
            lambda refused: refused == 1,
        )
        assert await running.stub.Get(VALID, timeout=TIMEOUT_SECONDS) == pb.GetResponse()
        await eventually(lambda: asyncio.sleep(0, running.timed()), lambda count: count >= 1)
        assert running.timed() == 1
