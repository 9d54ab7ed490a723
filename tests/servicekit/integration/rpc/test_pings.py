"""Keepalive pings of clients that make no calls, over HTTP/2 frames written by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from servicekit.rpc.server_limits import ServerLimits
from tests.servicekit.scripted_server import scripted_server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1
# gRPC's default: with more than two pings too early a client gets GOAWAY.
PINGS = 6


def frame(kind: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + bytes(4) + payload


class IdleClient:
    """A connection without calls."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ping(self) -> int:
        """Send a ping; the kind of frame that answers it."""
        self._writer.write(frame(PING, bytes(8)))
        while True:
            header = await self._reader.readexactly(9)
            await self._reader.readexactly(int.from_bytes(header[:3]))
            kind, flags = header[3], header[4]
            if kind == GOAWAY or (kind == PING and flags & ACK):
                return kind


@asynccontextmanager
async def idle_client(limits: ServerLimits) -> AsyncIterator[IdleClient]:
    async with scripted_server(limits=limits) as running:
        host, _, port = running.server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(PREFACE + frame(SETTINGS) + frame(SETTINGS, flags=ACK))
            async with asyncio.timeout(30):
                yield IdleClient(reader, writer)
        finally:
            writer.close()


async def test_an_idle_client_may_ping_as_often_as_the_limit_says() -> None:
    async with idle_client(ServerLimits(ping_interval=timedelta(milliseconds=20))) as client:
        answers = []
        for _ in range(PINGS):
            await asyncio.sleep(0.05)
            answers.append(await client.ping())
    assert answers == [PING] * PINGS


async def test_an_idle_client_that_pings_more_often_gets_goaway() -> None:
    async with idle_client(ServerLimits(ping_interval=timedelta(hours=1))) as client:
        answers = [PING]
        while answers[-1] == PING:
            answers.append(await client.ping())
    assert answers[-1] == GOAWAY
    assert len(answers) <= PINGS
