"""Connections of an HTTP server are bounded in number and time, and clients that send nothing keep no other out."""

from datetime import timedelta
from typing import TypeVar

from starlette.responses import PlainTextResponse

from servicekit.http.limits import HttpLimits
from tests.eventually import eventually
from tests.servicekit.integration.http.bounded_server import GET, bounded_server

T = TypeVar("T")

SHORT = timedelta(milliseconds=100)
HELD = GET.replace(b"/ ", b"/held ")


async def test_silent_connections_beyond_the_limit_keep_no_other_out() -> None:
    async with bounded_server(HttpLimits(connections=5)) as server:
        silent = [await server.connect() for _ in range(5)]
        for _ in range(5):
            assert (await (await server.connect()).response()).endswith(b"here")
        for each in silent:
            assert await each.closed() == b""
        assert server.refused() == {"connections": 5}


async def test_the_connection_that_waited_longest_is_closed_for_a_new_one() -> None:
    async with bounded_server(HttpLimits(connections=2)) as server:
        first, second = await server.connect(), await server.connect()
        await second.response()
        await first.response()
        third = await server.connect()
        await third.response()
        assert await second.closed() == b""
        assert (await first.response()).endswith(b"here")


async def test_a_connection_with_a_request_in_flight_is_never_closed_for_another() -> None:
    async with bounded_server(HttpLimits(connections=2)) as server:
        busy = [await server.connect(), await server.connect()]
        for each in busy:
            await each.send(HELD)
        await eventually(lambda: _value(server.application.held), lambda held: held == 2)
        late = await server.connect()
        assert await late.closed() == b""
        server.application.release.set()
        for each in busy:
            assert (await each.response(b"")).endswith(b"here")
        assert server.refused() == {"connections": 1}


async def test_the_connections_of_one_peer_are_limited() -> None:
    async with bounded_server(HttpLimits(connections=100, connections_per_peer=3)) as server:
        silent = [await server.connect() for _ in range(4)]
        assert await silent[0].closed() == b""
        assert (await silent[3].response()).endswith(b"here")
        assert server.refused() == {"connections_per_peer": 1}


async def test_closed_connections_make_room() -> None:
    async with bounded_server(HttpLimits(connections=2, connections_per_peer=2)) as server:
        for _ in range(6):
            client = await server.connect()
            await client.response(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert await client.closed() == b""
        assert server.refused() == {}


async def test_a_connection_that_sends_nothing_is_closed_after_the_header_time() -> None:
    async with bounded_server(HttpLimits(header_time=SHORT)) as server:
        assert await (await server.connect()).closed() == b""
        assert server.refused() == {"header_time": 1}


async def test_bytes_of_a_header_do_not_lengthen_its_time() -> None:
    async with bounded_server(HttpLimits(header_time=SHORT)) as server:
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\n")
        await client.send(b"A: b\r\n")
        assert await client.closed() == b""
        assert server.refused() == {"header_time": 1}


async def test_the_header_time_holds_for_later_requests_of_a_connection() -> None:
    async with bounded_server(HttpLimits(header_time=SHORT)) as server:
        client = await server.connect()
        await client.response()
        await client.send(b"GET")
        assert await client.closed() == b""
        assert server.refused() == {"header_time": 1}


async def test_a_request_in_flight_outlasts_the_header_time() -> None:
    async with bounded_server(HttpLimits(header_time=SHORT)) as server:
        busy, silent = await server.connect(), await server.connect()
        await busy.send(HELD)
        # Later than the first one's time.
        assert await silent.closed() == b""
        server.application.release.set()
        assert (await busy.response(b"")).endswith(b"here")


async def test_a_client_that_does_not_read_its_response_is_disconnected_after_the_write_time() -> None:
    async with bounded_server(HttpLimits(write_time=SHORT)) as server:
        server.application.response = PlainTextResponse("x" * 50_000_000)
        client = await server.connect(read_limit=1)
        await client.send(GET)
        await eventually(lambda: _value(server.refused()), lambda refused: refused == {"write_time": 1})
        assert len(await client.closed()) < 50_000_000


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with bounded_server(HttpLimits()) as server:
        client = await server.connect()
        await client.send(GET * 3)
        for _ in range(3):
            assert (await client.response(b"")).endswith(b"here")


async def _value(value: T) -> T:
    return value
