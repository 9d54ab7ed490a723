"""A network between two services that can fail: replies swallowed, connections reset, the peer moved."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.tcp_server import TcpServer

_CHUNK = 1 << 16


class TcpProxy:
    """Forwards every connection to `target`, which may change at any time: `host:port`, or the path of a unix socket."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.address = ""
        self.swallows_replies = False
        # Set when a reply was swallowed: the peer has done its work and no caller knows.
        self.swallowed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        # Connections opened before `silence`: their bytes are read and dropped.
        self._generation = 0
        self._server = TcpServer(self._forward)

    async def start(self) -> None:
        """Listen: on a free port, and on the same one again after `stop`."""
        await self._server.start(self._server.port)
        self.address = f"127.0.0.1:{self._server.port}"

    async def stop(self) -> None:
        """Leave the port and reset every connection."""
        await self._server.stop()

    def reset(self) -> None:
        """Break every connection off; new ones are welcome."""
        for writer in list(self._writers):
            writer.transport.abort()

    def silence(self) -> None:
        """Drop, without a reset, all that open connections carry from now on, as a host that has vanished; accept new ones."""
        self._generation += 1

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        generation = self._generation
        try:
            peer_reader, peer_writer = await self._connect()
        except OSError:
            return
        ends = (writer, peer_writer)
        self._writers.update(ends)
        directions = [
            asyncio.create_task(self._copy(reader, peer_writer, generation, replies=False)),
            asyncio.create_task(self._copy(peer_reader, writer, generation, replies=True)),
        ]
        try:
            # Either direction's end is the end of both.
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers.difference_update(ends)
            for end in ends:
                end.transport.abort()
            await asyncio.wait(directions)
            with suppress(ConnectionError):
                await peer_writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.target.startswith("/"):
            return await asyncio.open_unix_connection(self.target)
        host, port = self.target.split(":")
        return await asyncio.open_connection(host, int(port))

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, generation: int, *, replies: bool
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                if generation != self._generation:
                    continue
                if replies and self.swallows_replies:
                    self.swallowed.set()
                    continue
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def tcp_proxy(target: str = "") -> AsyncIterator[TcpProxy]:
    """A proxy that listens on a free port of loopback, until the block is left."""
    proxy = TcpProxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
