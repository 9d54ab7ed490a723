"""Statements whose task is cancelled: the connection serves the next one, and no transaction is left open or half done."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from servicekit.database.engine import autocommit, close_engine, create_engine
from tests.eventually import eventually
from tests.servicekit.cancelled_at import SUSPENSIONS, CancelledAt

LOCK = 471


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """An engine of one connection."""
    # Without a bound of time: a starved machine takes long to answer, and that is no fault here.
    engine = create_engine(database, application_name="tests", pool_size=1, statement_timeout_seconds=0.0)
    yield engine
    await close_engine(engine)


@pytest_asyncio.fixture
async def other(database: str) -> AsyncIterator[AsyncConnection]:
    """A connection beside it."""
    engine = create_engine(database, application_name="other", pool_size=1)
    async with autocommit(engine).connect() as connection:
        yield connection
    await close_engine(engine)


async def backend(engine: AsyncEngine) -> int:
    async with autocommit(engine).connect() as connection:
        return int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def take_lock(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))


async def waits(other: AsyncConnection) -> bool:
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return bool((await other.execute(waiting)).scalar_one())


@pytest.mark.parametrize("kind", ["a statement", "a statement in a transaction"])
async def test_a_cancelled_statement_costs_no_connection(
    engine: AsyncEngine, other: AsyncConnection, kind: str
) -> None:
    view = autocommit(engine) if kind == "a statement" else engine
    # The statement is prepared from here on, as all of a service are after its first minute.
    await take_lock(view)
    pid = await backend(engine)
    await other.execute(text(f"SELECT pg_advisory_lock({LOCK})"))
    task = asyncio.ensure_future(take_lock(view))
    await eventually(lambda: waits(other))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The server was requested to cancel it: the lock is not released yet.
    assert not await waits(other)
    assert await backend(engine) == pid


async def test_wherever_a_transaction_is_cancelled_it_is_whole_or_nothing(
    engine: AsyncEngine, other: AsyncConnection
) -> None:
    await other.execute(text("CREATE TABLE cancelled (number int, half int)"))

    async def insert(number: int) -> None:
        async with engine.begin() as connection:
            for half in range(2):
                await connection.execute(
                    text("INSERT INTO cancelled VALUES (:number, :half)"), {"number": number, "half": half}
                )

    number, run = 0, None
    while run is None or not run.ended_before:
        number += 1
        assert number < SUSPENSIONS
        run = CancelledAt(insert(number), number)
        task = asyncio.ensure_future(_awaited(run))
        await asyncio.wait([task])
        # Were the connection still in a transaction, this would be lost with it.
        async with autocommit(engine).connect() as connection:
            await connection.execute(text("INSERT INTO cancelled VALUES (0, :number)"), {"number": number})
    halves = "SELECT count(*) FROM cancelled WHERE number > 0 GROUP BY number HAVING count(*) <> 2"
    assert not (await other.execute(text(halves))).all()
    alone = "SELECT count(*) FROM cancelled WHERE number = 0"
    assert (await other.execute(text(alone))).scalar_one() == number
    assert (
        await other.execute(text("SELECT count(*) FROM cancelled WHERE number = :n"), {"n": number})
    ).scalar_one() == 2


async def _awaited(run: CancelledAt) -> None:
    await run
