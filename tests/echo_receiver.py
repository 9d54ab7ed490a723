"""A receiver that fails, and says all that it was sent: in the status line, in the headers and in the body."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.tcp_server import tcp_server


class EchoReceiver:
    """Counts the requests by their paths."""

    def __init__(self) -> None:
        self.port = 0
        self.paths: Counter[str] = Counter()

    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request of a connection with 500."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            line, *headers = head.decode("latin-1").strip().split("\r\n")
            target = line.split(" ")[1]
            self.paths[target.partition("?")[0]] += 1
            lengths = [
                value
                for name, _, value in (each.partition(":") for each in headers)
                if name.lower() == "content-length"
            ]
            body = head + await reader.readexactly(int(lengths[0]) if lengths else 0)
            echoed = "".join(f"X-Echo-{number}: {each}\r\n" for number, each in enumerate(headers))
            answer = (
                f"HTTP/1.1 500 no {target}\r\nLocation: {target}\r\n{echoed}"
                f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(answer.encode("latin-1") + body)
            await writer.drain()


@asynccontextmanager
async def echo_receiver() -> AsyncIterator[EchoReceiver]:
    """A receiver until the block ends."""
    running = EchoReceiver()
    async with tcp_server(running.serve) as server:
        running.port = server.port
        yield running
