"""A TCP server of a test: when its block ends, no connection of it is left."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from tests.services import TIMEOUT_SECONDS

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class TcpServer:
    """Serves each connection with `serve`, and aborts it when that returns."""

    def __init__(self, serve: Serve) -> None:
        self.port = 0
        self._serve = serve
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Listen on loopback; port 0: on a free one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Leave the port and abort every connection; returns when all are closed."""
        if self._server is None:
            return
        # A closed server refuses the connections that it has just accepted, and leaves their sockets open.
        for listening in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listening)
        await asyncio.sleep(0)
        self._server.close()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            # `wait_closed` of Python 3.11 does not wait for connections.
            while self._serving or self._server._active_count:  # type: ignore[attr-defined]
                for task in self._serving:
                    task.cancel()
                await asyncio.gather(*self._serving, return_exceptions=True)
                await asyncio.sleep(0)
        self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # Also when the task is cancelled before it has begun.
        task.add_done_callback(lambda _: writer.transport.abort())


@asynccontextmanager
async def tcp_server(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[TcpServer]:
    """A server on a free port until the block ends."""
    server = TcpServer(serve)
    await server.start(tls=tls)
    try:
        yield server
    finally:
        await server.stop()
