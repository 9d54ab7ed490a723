"""Receivers that send without end: bounded in bytes and time, and the event loop keeps running."""

import asyncio
import gc
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from servicekit.webhooks import sender
from servicekit.webhooks.errors import ConnectionFailedError, ResponseTimeoutError
from servicekit.webhooks.network import MAX_RESPONSE_BYTES
from servicekit.webhooks.response import Response
from tests.certificates import self_signed_certificate, server_context
from tests.receiver import Answer, endless_body, raw, receiver
from tests.servicekit.unit.webhooks.sending import BODY, outcome, outcome_of, post, sender_to
from tests.services import TIMEOUT_SECONDS
from tests.tcp_server import tcp_server

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# Processor time of one turn of the event loop while a flood is parsed. Measured: 2 ms at most; 20 ms and more when one turn
# parses all that was received.
MAX_TURN_SECONDS = 0.01


@dataclass
class Flood:
    """A server in a thread, so that it has no part in the event loop: it sends `first`, then `block` for ever."""

    first: bytes
    block: bytes
    tls: ssl.SSLContext | None
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        """Its URL."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/"

    def serve(self) -> None:
        """Answer connections until the listener is closed."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError):
                connection.settimeout(60)
                with self.tls.wrap_socket(connection, server_side=True) if self.tls else connection as peer:
                    peer.recv(65_536)
                    peer.sendall(self.first)
                    while True:
                        peer.sendall(self.block)

    def close(self) -> None:
        """Stop."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def flood(first: bytes, block: bytes, tls: ssl.SSLContext | None = None) -> Iterator[Flood]:
    """A flood until the block ends."""
    server = Flood(first, block, tls)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(60)


@dataclass
class Turns:
    """The turns of the event loop."""

    longest: float = 0.0

    async def watch(self) -> None:
        """Measure each turn's processor time on this thread."""
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            self.longest = max(self.longest, time.thread_time() - before)


@asynccontextmanager
async def turns() -> AsyncIterator[Turns]:
    """The turns of the event loop during the block, without those of the garbage collector."""
    # The first connection of a process imports what it needs.
    await outcome_of(raw(b"HTTP/1.1 204 No Content\r\n\r\n"))
    gc.collect()
    gc.disable()
    measured = Turns()
    watching = asyncio.create_task(measured.watch())
    try:
        yield measured
    finally:
        gc.enable()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize(
    ("first", "block"),
    [
        pytest.param(b"", CONTINUE * 4000, id="interim responses"),
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" * 2000, id="early hints"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 10_000, id="headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65_536, id="a header"),
        pytest.param(b"HTTP/1.1 200 ", b"x" * 65_536, id="a status line"),
        pytest.param(b"", b"\r\n" * 10_000, id="empty lines"),
    ],
)
async def test_a_head_without_end_is_cut_off_while_the_event_loop_keeps_running(
    first: bytes, block: bytes
) -> None:
    with flood(first, block) as server:
        async with turns() as measured:
            error = await outcome(server.url)
    assert isinstance(error, ConnectionFailedError)
    assert str(error) == "the connection failed: RemoteProtocolError"
    assert measured.longest < MAX_TURN_SECONDS


async def test_interim_responses_without_end_over_tls_are_cut_off_as_well(tmp_path: Path) -> None:
    certificate = self_signed_certificate(tmp_path)
    with flood(b"", CONTINUE * 4000, server_context(certificate)) as server:
        async with turns() as measured:
            error = await outcome(server.url, tls=ssl.create_default_context(cafile=certificate))
    assert isinstance(error, ConnectionFailedError)
    assert measured.longest < MAX_TURN_SECONDS


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize(
    ("first", "block"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536, id="bytes"),
        pytest.param(CHUNKED, b"1\r\nx\r\n" * 10_000, id="tiny chunks"),
        pytest.param(CHUNKED, b"1;" + b"x" * 4000 + b"\r\nx\r\n", id="chunk extensions"),
        pytest.param(CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000, id="trailers"),
    ],
)
async def test_the_status_decides_when_the_body_has_no_end(
    first: bytes, block: bytes, *, reuse: bool
) -> None:
    with flood(first, block) as server:
        async with turns() as measured:
            assert await outcome(server.url, reuse_connections=reuse) == Response(200)
    assert measured.longest < MAX_TURN_SECONDS


def drip(first: bytes, block: bytes) -> Answer:
    """Answer slowly and without end: an inactivity timeout never fires."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(block)
            await writer.drain()
            await asyncio.sleep(0.01)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(drip(b"HTTP/1.1 100 Continue\r\n", b"a: b\r\n"), id="headers of an interim response"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), id="headers"),
        pytest.param(drip(b"HTTP/1.1 200 ", b"x"), id="a status line"),
    ],
)
async def test_the_deadline_bounds_a_head_that_drips(answer: Answer) -> None:
    started = time.monotonic()
    error = await outcome_of(answer, within=0.3)
    assert isinstance(error, ResponseTimeoutError)
    assert 0.3 <= time.monotonic() - started < 10


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x"), id="bytes"),
        pytest.param(drip(CHUNKED, b"1\r\nx\r\n"), id="chunks"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), id="half a body"),
        pytest.param(raw(CHUNKED + b"sesame\r\n"), id="a broken body"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\nbytes"),
            id="a body that cannot be decoded",
        ),
    ],
)
async def test_the_status_decides_when_the_body_drips_or_breaks(answer: Answer) -> None:
    started = time.monotonic()
    assert await outcome_of(answer, within=60) == Response(200)
    assert time.monotonic() - started < 20


async def test_the_deadline_is_for_the_status_and_not_for_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_MAX_BODY_SECONDS", 2.5)
    assert await outcome_of(drip(CHUNKED, b"1\r\nx\r\n"), within=2) == Response(200)


async def test_the_deadline_bounds_a_request_that_is_not_read() -> None:
    async def never_read(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with (
        tcp_server(never_read) as server,
        sender_to(f"http://127.0.0.1:{server.port}/") as webhook,
    ):
        with pytest.raises(ResponseTimeoutError):
            await post(webhook, within=0.3, body=b" " * 50_000_000)


async def test_the_deadline_bounds_a_tls_handshake_that_hangs() -> None:
    async with receiver() as there:
        url = there.url().replace("http:", "https:")
        assert isinstance(await outcome(url, within=0.3), ResponseTimeoutError)


async def test_a_connection_whose_tls_handshake_hangs_is_closed_at_the_deadline() -> None:
    closed = asyncio.Event()

    async def read_until_closed(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(65_536):
                pass
        closed.set()

    async with (
        tcp_server(read_until_closed) as server,
        sender_to(f"https://127.0.0.1:{server.port}/") as webhook,
    ):
        with pytest.raises(ResponseTimeoutError):
            await post(webhook, within=0.3)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await closed.wait()


async def test_the_bound_holds_for_each_response_of_a_connection() -> None:
    body = b"x" * (MAX_RESPONSE_BYTES // 2)
    answer = raw(CONTINUE * 3 + b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    async with receiver() as there, sender_to(there.url()) as webhook:
        there.answers += [answer] * 4
        for _ in range(4):
            assert await post(webhook) == Response(200)
        assert {request.connection for request in there.requests} == {1}
        assert {request.body for request in there.requests} == {BODY}


async def test_a_body_beyond_the_bound_costs_the_connection_alone() -> None:
    async with receiver() as there, sender_to(there.url()) as webhook:
        there.answers += [endless_body(200)]
        for _ in range(2):
            assert isinstance(await post(webhook), Response)
        assert [request.connection for request in there.requests] == [1, 2]
