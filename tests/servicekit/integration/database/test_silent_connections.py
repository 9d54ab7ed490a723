"""Connections whose peer vanished without a reset: every wait on them is bounded, and their peers go with them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from servicekit.database.engine import autocommit, close_engine, create_engine
from servicekit.database.errors import DatabaseUnavailableError, is_unavailable
from servicekit.outbox.wakeup import listen
from tests.databases import postgres_socket, url_through
from tests.tcp_proxy import TcpProxy, tcp_proxy

# The client's bound is a second longer.
STATEMENT_SECONDS = 0.2
# Never met when all is well.
FOR_EVER = 60


@pytest_asyncio.fixture
async def network() -> AsyncIterator[TcpProxy]:
    async with tcp_proxy(postgres_socket()) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def silent(database: str, network: TcpProxy) -> AsyncIterator[AsyncEngine]:
    """An engine whose connections go through the network that a test silences."""
    engine = create_engine(
        url_through(network.address, database),
        application_name="tests",
        statement_timeout_seconds=STATEMENT_SECONDS,
    )
    yield engine
    async with asyncio.timeout(FOR_EVER):
        await close_engine(engine)


async def _statement(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT 1"))


WAITS: dict[str, Callable[[AsyncConnection], Awaitable[Any]]] = {
    "a statement": _statement,
    "a commit": lambda connection: connection.commit(),
    "a rollback": lambda connection: connection.rollback(),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
async def test_every_wait_on_a_silent_connection_ends_as_unavailable(
    silent: AsyncEngine, network: TcpProxy, wait: Callable[[AsyncConnection], Awaitable[Any]]
) -> None:
    async with asyncio.timeout(FOR_EVER):
        async with silent.connect() as connection:
            await _statement(connection)
            network.silence()
            with pytest.raises(DatabaseUnavailableError) as caught:
                await wait(connection)
        assert is_unavailable(caught.value)
        async with silent.connect() as connection:
            await _statement(connection)


async def test_the_peers_of_a_silent_connection_are_ended_with_it(
    silent: AsyncEngine, network: TcpProxy
) -> None:
    one, other = await silent.connect(), await silent.connect()
    await _statement(one)
    await _statement(other)
    raw = (await other.get_raw_connection()).driver_connection
    assert raw is not None
    network.silence()
    async with asyncio.timeout(FOR_EVER):
        with pytest.raises(DatabaseUnavailableError):
            await _statement(one)
        assert raw.is_closed()
        with pytest.raises(InterfaceError) as caught:
            await _statement(other)
    assert is_unavailable(caught.value)
    await one.close()
    await other.close()


async def test_a_statement_that_the_server_gives_up_on_ends_no_other_connection(
    silent: AsyncEngine,
) -> None:
    async with silent.connect() as one, autocommit(silent).connect() as other:
        await _statement(other)
        with pytest.raises(Exception, match="statement timeout") as caught:
            await one.execute(text("SELECT pg_sleep(60)"))
        assert is_unavailable(caught.value)
        await _statement(other)


async def test_closing_an_engine_with_silent_connections_is_bounded(
    silent: AsyncEngine, network: TcpProxy
) -> None:
    connections = [await silent.connect() for _ in range(10)]
    for connection in connections:
        await _statement(connection)
        await connection.rollback()
        await connection.close()
    network.silence()
    async with asyncio.timeout(FOR_EVER):
        await close_engine(silent)


async def test_a_silent_listener_is_replaced(
    silent: AsyncEngine, network: TcpProxy, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servicekit.outbox.wakeup._PROBE_SECONDS", 0.05)
    notified = asyncio.Event()
    task = asyncio.create_task(listen(silent, "news", notified.set))
    try:
        async with asyncio.timeout(FOR_EVER):
            await notified.wait()
            notified.clear()
            network.silence()
            # On the replacement, which asks once when it is there.
            await notified.wait()
            notified.clear()
            await rows.execute("NOTIFY news")
            await notified.wait()
    finally:
        task.cancel()


async def test_connections_over_tcp_have_keepalive_and_a_user_timeout(silent: AsyncEngine) -> None:
    async with silent.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        found = raw._transport.get_extra_info("socket")
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert 0 < found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 10
        assert 0 < found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 15_000
