"""An HTTP server with limits of a test's own, and clients that speak to it byte by byte."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.http.admission import AllowedHosts
from servicekit.http.limits import HttpLimits, HttpRefusals
from servicekit.http.server import HttpServer
from servicekit.http.tls import HttpTls
from tests.services import TIMEOUT_SECONDS

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass
class Application:
    """Responds with `response`; `/held` once it is released."""

    response: Response = field(default_factory=lambda: PlainTextResponse("here"))
    held: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond."""
        if scope["path"] == "/held":
            self.held += 1
            await self.release.wait()
        await self.response(scope, receive, send)


class Client:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def response(self, request: bytes = GET) -> bytes:
        """Send a request; return the response, with the length that it says."""
        await self.send(request)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            return head + await self.reader.readexactly(int(length.partition(b":")[2]))

    async def closed(self) -> bytes:
        """Return what came until the server closed the connection."""
        received = b""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with suppress(ConnectionError):
                while data := await self.reader.read(65_536):
                    received += data
        return received


class BoundedServer:
    """The server."""

    def __init__(self, server: HttpServer, refusals: HttpRefusals, application: Application) -> None:
        self.application = application
        self.refusals = refusals
        self.address = server.address
        self._host, _, self._port = server.address.rpartition(":")
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self, *, read_limit: int = 65_536, tls: ssl.SSLContext | None = None) -> Client:
        """Open a connection; the client buffers about `read_limit` bytes that the test has not read."""
        reader, writer = await asyncio.open_connection(self._host, int(self._port), limit=read_limit, ssl=tls)
        self._writers.append(writer)
        return Client(reader, writer)

    def refused(self) -> Mapping[str, float]:
        """How many were refused, by limit, without zeros."""
        return {limit: count for limit, count in self.refusals.counts.items() if count}

    async def close(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            writer.transport.abort()
        for writer in self._writers:
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def bounded_server(
    limits: HttpLimits,
    hosts: AllowedHosts | None = None,
    *,
    tls: HttpTls | None = None,
    around: Callable[[ASGIApp, HttpRefusals], ASGIApp] = lambda app, _refusals: app,
) -> AsyncIterator[BoundedServer]:
    """A server with these limits until the block ends; `around` wraps its application."""
    application, refusals, stop = Application(), HttpRefusals(), asyncio.Event()
    server = HttpServer(
        around(application, refusals),
        "127.0.0.1:0",
        drain_seconds=1,
        refusals=refusals,
        hosts=hosts,
        limits=limits,
        tls=tls,
    )
    serving = asyncio.create_task(server.serve_until(stop))
    bounded = BoundedServer(server, refusals, application)
    try:
        yield bounded
    finally:
        application.release.set()
        await bounded.close()
        stop.set()
        await serving
