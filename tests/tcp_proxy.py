"""A network between two services that can fail: replies swallowed, connections reset, the peer moved."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK = 1 << 16


class TcpProxy:
    """Forwards every connection to `target` (`host:port`), which may change at any time."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.address = ""
        self.swallows_replies = False
        # Set when a reply was swallowed: the peer has done its work and nobody was told.
        self.swallowed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen: on a free port, and on the same one again after `stop`."""
        host, port = (self.address or "127.0.0.1:0").split(":")
        self._server = await asyncio.start_server(self._forward, host, int(port))
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Leave the port and reset every connection."""
        if self._server is not None:
            self._server.close()
            self.reset()
            await self._server.wait_closed()
            self._server = None

    def reset(self) -> None:
        """Break every connection off; new ones are welcome."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        host, port = self.target.split(":")
        try:
            peer_reader, peer_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            self._end(writer)
            return
        self._writers.add(peer_writer)
        # Either direction's end is the end of both.
        directions = [
            asyncio.create_task(self._copy(reader, peer_writer, replies=False)),
            asyncio.create_task(self._copy(peer_reader, writer, replies=True)),
        ]
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, peer_writer):
            self._end(end)
        await asyncio.wait(directions)

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                if replies and self.swallows_replies:
                    self.swallowed.set()
                    continue
                writer.write(data)
                await writer.drain()

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.transport.abort()


@asynccontextmanager
async def tcp_proxy(target: str = "") -> AsyncIterator[TcpProxy]:
    """A proxy that listens on a free port of loopback, until the block is left."""
    proxy = TcpProxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
