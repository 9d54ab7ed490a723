"""A real HTTP server on a free port: a test scripts its responses and reads its requests."""

import asyncio
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.services import TIMEOUT_SECONDS
from tests.tcp_server import tcp_server

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Received:
    """A request. The names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    # Which of the receiver's connections it came by.
    connection: int

    @property
    def content(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def status(code: int, *, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
    """Answer with a status."""
    lines = [
        f"{name}: {value}"
        for name, value in ({"Content-Length": str(len(body))} | dict(headers or {})).items()
    ]
    return raw("\r\n".join([f"HTTP/1.1 {code} {code}", *lines, "", ""]).encode() + body)


def raw(content: bytes) -> Answer:
    """Answer with these bytes."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()

    return answer


def endless_body(code: int) -> Answer:
    """Answer with a status and a body without end."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {code} {code}\r\nContent-Length: {10**12}\r\n\r\n".encode())
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    return answer


async def reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close the connection without an answer."""
    writer.close()


class Held:
    """An answer that is held until the test releases it."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.release = asyncio.Event()

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        """Wait, then answer."""
        await self.release.wait()
        await self._answer(writer)


class Receiver:
    """Gives each request the next of `answers`; 204 when there is none left."""

    def __init__(self, scheme: str) -> None:
        self.answers: deque[Answer] = deque()
        self.requests: list[Received] = []
        self._scheme = scheme
        self._changed = asyncio.Condition()
        self._connections = 0
        self.port = 0

    def url(self, path: str = "/") -> str:
        """The URL of a path here."""
        return f"{self._scheme}://127.0.0.1:{self.port}{path}"

    async def received(self, number: int) -> Received:
        """Return request `number`, counted from 1, when it is there."""
        async with asyncio.timeout(TIMEOUT_SECONDS), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= number)
        return self.requests[number - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection."""
        self._connections += 1
        number = self._connections
        with suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                request = await read_request(reader, number)
                answer = self.answers.popleft() if self.answers else status(204)
                async with self._changed:
                    self.requests.append(request)
                    self._changed.notify_all()
                await answer(writer)


async def read_request(reader: asyncio.StreamReader, connection: int) -> Received:
    """The next request of a connection. Raises IncompleteReadError when there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body, connection)


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver until the block ends."""
    running = Receiver("https" if tls else "http")
    async with tcp_server(running.serve, tls) as server:
        running.port = server.port
        yield running


async def free_port() -> int:
    """A port without a listener."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
