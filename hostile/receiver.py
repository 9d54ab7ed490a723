"""A webhook receiver: good, or one that sends interim answers (HTTP 1xx) for ever.

In a process of its own, as attackers are: what a hostile receiver costs itself must not count as what it costs the services.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hostile.errors import HostileError
from hostile.priority import give_way

_GOOD_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100
_GOOD = b"good\n"
_HOSTILE = b"hostile\n"


class Receiver:
    """The process, which takes commands on its standard input and answers each with the number of webhooks so far."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self.address = address

    async def behave(self, *, hostile: bool) -> int:
        """Be hostile from now on, or good; returns how many webhooks came until now."""
        assert self._process.stdin is not None
        self._process.stdin.write(_HOSTILE if hostile else _GOOD)
        return int(await _line(self._process))


@asynccontextmanager
async def running_receiver() -> AsyncIterator[Receiver]:
    """A receiver, good at first, until the block ends. Raises HostileError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hostile.receiver",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Receiver(process, (await _line(process)).decode())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise HostileError("the receiver of webhooks has ended")
    return line.strip()


class _Server:
    def __init__(self) -> None:
        self.is_hostile = False
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line.partition(b":")[2]))
            self.requests += 1
            while self.is_hostile:
                writer.write(_INTERIM)
                await writer.drain()
                await asyncio.sleep(0)
            writer.write(_GOOD_ANSWER)
            await writer.drain()
        writer.transport.abort()


async def _main() -> None:
    """Serve on a free port until the standard input ends."""
    server = _Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    _say(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    while command := await commands.readline():
        server.is_hostile = command == _HOSTILE
        _say(str(server.requests))


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    give_way()
    asyncio.run(_main())
