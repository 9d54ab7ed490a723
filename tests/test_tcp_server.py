"""A TCP server of a test leaves nothing open."""

import asyncio
import contextlib
import gc
import socket

import pytest

from tests.services import TIMEOUT_SECONDS
from tests.tcp_server import tcp_server


async def serve_until_cancelled(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_is_closed_at_the_stop_however_far_its_acceptance_is(turns: int) -> None:
    async with tcp_server(serve_until_cancelled) as server:
        client = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_SECONDS)
        for _ in range(turns):
            await asyncio.sleep(0)
    with client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    # What was left open would be a warning now, which is an error.
    gc.collect()
