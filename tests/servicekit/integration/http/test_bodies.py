"""Bodies of requests: each is bounded, all together are, and so is the time to send one."""

import asyncio
from datetime import timedelta

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from servicekit.http.bodies import Bodies, BodyRefusedError
from servicekit.http.limits import HttpLimits, HttpRefusals
from tests.servicekit.integration.http.bounded_server import GET, bounded_server

LIMITS = HttpLimits(body_bytes=1_000, bodies_bytes=2_500)
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


def sized(body: bytes, *, declared: int | None = None) -> bytes:
    """A POST with the length of its body."""
    return HEAD + f"Content-Length: {len(body) if declared is None else declared}\r\n\r\n".encode() + body


def chunked(*parts: bytes) -> bytes:
    """A POST with its body in parts, without the last one."""
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts)


END = b"0\r\n\r\n"


class Reader:
    """An application that reads bodies, and holds them while it is held."""

    _bodies: Bodies

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self.reading = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()
        self.gone = asyncio.Event()

    def around(self, app: ASGIApp, refusals: HttpRefusals) -> ASGIApp:
        """The application of a server: `app` answers what is no POST."""
        self._bodies = Bodies(self._limits, refusals)
        return Starlette(routes=[Route("/", self.post, methods=["POST"]), Mount("/", app)])

    async def post(self, request: Request) -> Response:
        """Respond with the size of the body."""
        try:
            async with self._bodies.read(request) as body:
                self.reading.set()
                await self.release.wait()
                return PlainTextResponse(str(len(body)))
        except BodyRefusedError as exc:
            return exc.response()
        except ClientDisconnect:
            self.gone.set()
            return Response()


async def test_a_body_within_the_limit_is_read_whole_in_any_form() -> None:
    reader = Reader(LIMITS)
    async with bounded_server(LIMITS, around=reader.around) as server:
        client = await server.connect()
        for request in (sized(b"x" * 1_000), chunked(b"x" * 400, b"x" * 600) + END):
            assert (await client.response(request)).endswith(b"\r\n\r\n1000")
        assert (await client.response(GET)).endswith(b"here")
        assert server.refused() == {}


@pytest.mark.parametrize(
    "declared", ["1001", "1" + 30 * "0", "1" + 4_500 * "0"], ids=["a little", "huge", "digits"]
)
async def test_a_declared_size_beyond_the_limit_is_refused_unread(declared: str) -> None:
    reader = Reader(LIMITS)
    async with bounded_server(LIMITS, around=reader.around) as server:
        client = await server.connect()
        await client.send(HEAD + f"Content-Length: {declared}\r\n\r\n".encode())
        # The parser refuses numbers of thousands of digits first.
        assert (await client.closed()).startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))
        assert not reader.reading.is_set()


async def test_a_body_in_parts_is_refused_as_soon_as_it_is_too_large() -> None:
    reader = Reader(LIMITS)
    async with bounded_server(LIMITS, around=reader.around) as server:
        client = await server.connect()
        await client.send(chunked(b"x" * 600, b"x" * 401))
        assert (await client.closed()).startswith(b"HTTP/1.1 413 ")
        assert server.refusals.counts["body"] == 1


async def test_a_body_that_does_not_end_is_refused_in_time() -> None:
    limits = HttpLimits(body_bytes=1_000, body_time=timedelta(milliseconds=50))
    reader = Reader(limits)
    async with bounded_server(limits, around=reader.around) as server:
        client = await server.connect()
        await client.send(sized(b"x", declared=10))
        assert (await client.closed()).startswith(b"HTTP/1.1 408 ")
        assert server.refusals.counts["body_time"] == 1


async def test_all_bodies_together_are_bounded_until_their_requests_are_answered() -> None:
    reader = Reader(LIMITS)
    async with bounded_server(LIMITS, around=reader.around) as server:
        reader.release.clear()
        held = [await server.connect() for _ in range(2)]
        for client in held:
            reader.reading.clear()
            await client.send(sized(b"x" * 1_000))
            await reader.reading.wait()
        refused = await (await server.connect()).response(sized(b"x" * 1_000))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in refused.lower()
        # In parts it may become as large as the limit.
        parts = await (await server.connect()).response(chunked(b"x") + END)
        assert parts.startswith(b"HTTP/1.1 503 ")
        assert server.refusals.counts["bodies"] == 2
        reader.release.set()
        small = await (await server.connect()).response(sized(b"x" * 500))
        assert small.startswith(b"HTTP/1.1 200 ")
        for client in held:
            assert (await client.response(b"")).startswith(b"HTTP/1.1 200 ")
            assert (await client.response(sized(b"x" * 1_000))).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_goes_before_the_end_leaves_its_place() -> None:
    limits = HttpLimits(body_bytes=1_000, bodies_bytes=1_000)
    reader = Reader(limits)
    async with bounded_server(limits, around=reader.around) as server:
        client = await server.connect()
        await client.send(sized(b"x", declared=1_000))
        client.writer.transport.abort()
        await reader.gone.wait()
        whole = await (await server.connect()).response(sized(b"x" * 1_000))
        assert whole.startswith(b"HTTP/1.1 200 ")
