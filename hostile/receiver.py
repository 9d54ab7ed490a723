"""A webhook receiver: good, or one that sends interim answers (HTTP 1xx) for ever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100


class Receiver:
    """An HTTP server on a free port."""

    def __init__(self) -> None:
        self.hostile = False
        self.address = ""
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line.partition(b":")[2]))
            self.requests += 1
            while self.hostile:
                writer.write(_INTERIM)
                await writer.drain()
                await asyncio.sleep(0)
            writer.write(_GOOD)
            await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def running_receiver() -> AsyncIterator[Receiver]:
    """A receiver until the block ends."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        receiver.hostile = False
        server.close()
