"""The engine behind a real PgBouncer in transaction mode, whose sessions serve one transaction after the other."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.engine import autocommit, close_engine, create_engine
from servicekit.database.errors import DatabaseUnavailableError, is_too_long, reason_of
from tests.pgbouncer import PgBouncer, pgbouncer
from tests.servicekit.cancelled_at import SUSPENSIONS, CancelledAt

SETTINGS = text("""
    SELECT current_setting('application_name'), current_setting('statement_timeout'), current_setting('timezone'),
        current_setting('jit'), current_setting('plan_cache_mode'), current_setting('enable_seqscan'),
        current_setting('enable_bitmapscan')
""")
OURS = ("tests", "6s", "UTC", "off", "force_generic_plan", "off", "off")


@pytest.fixture(scope="module")
def pooler() -> Iterator[PgBouncer]:
    """A pooler with one session for each database."""
    with pgbouncer(pool_size=1) as running:
        yield running


@asynccontextmanager
async def opened(url: str, *, pooled: bool = True, **options: Any) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(url, application_name="tests", pooled=pooled, **options)
    try:
        yield engine
    finally:
        await close_engine(engine)


@pytest_asyncio.fixture
async def engine(pooler: PgBouncer, database: str) -> AsyncIterator[AsyncEngine]:
    """An engine behind the pooler."""
    async with opened(pooler.url(database)) as engine:
        yield engine


@pytest_asyncio.fixture
async def stranger(pooler: PgBouncer, database: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """Another client of the same session."""
    connection = await asyncpg.connect(pooler.url(database), statement_cache_size=0)
    try:
        yield connection
    finally:
        await connection.close()


async def statement(engine: AsyncEngine, sql: str, **parameters: object) -> list[tuple[Any, ...]]:
    async with autocommit(engine).connect() as connection:
        return [tuple(row) for row in await connection.execute(text(sql), parameters)]


async def transaction(engine: AsyncEngine, sql: str, **parameters: object) -> list[tuple[Any, ...]]:
    async with engine.begin() as connection:
        return [tuple(row) for row in await connection.execute(text(sql), parameters)]


both = pytest.mark.parametrize("run", [statement, transaction])


@both
async def test_each_transaction_has_the_settings_and_leaves_none(
    engine: AsyncEngine, stranger: "asyncpg.Connection[asyncpg.Record]", run: Any
) -> None:
    theirs = await stranger.fetchrow(SETTINGS.text)
    session = await stranger.fetchval("SELECT pg_backend_pid()")
    for _ in range(3):
        found = await asyncio.gather(*(run(engine, SETTINGS.text) for _ in range(20)))
        assert found == [[OURS]] * 20
        assert await run(engine, "SELECT pg_backend_pid()") == [(session,)]
        assert await stranger.fetchrow(SETTINGS.text) == theirs


@both
async def test_a_statement_ends_at_its_bound(pooler: PgBouncer, database: str, run: Any) -> None:
    async with opened(pooler.url(database), statement_timeout_seconds=0.1) as engine:
        for _ in range(2):
            with pytest.raises(DBAPIError) as caught:
                await run(engine, "SELECT pg_sleep(60)")
            assert is_too_long(caught.value)
        assert await run(engine, "SELECT 1") == [(1,)]


@both
async def test_clients_of_one_session_meet_no_statement_of_each_other(
    pooler: PgBouncer, database: str, stranger: "asyncpg.Connection[asyncpg.Record]", run: Any
) -> None:
    async with opened(pooler.url(database)) as one, opened(pooler.url(database)) as another:
        # Each keeps what it knows of its statements, and meanwhile the session has had the other's.
        for number in range(3):
            calls = [
                run(one, "SELECT CAST(:number AS integer)", number=number),
                run(another, "SELECT CAST(:number AS text), 2", number=str(number)),
                run(one, "SELECT CAST(:number AS text)", number=str(number)),
            ]
            assert await asyncio.gather(*calls) == [[(number,)], [(str(number), 2)], [(str(number),)]]
        assert not await stranger.fetch("SELECT FROM pg_prepared_statements WHERE name <> ''")


async def test_a_write_of_one_statement_is_committed_and_a_failed_one_leaves_nothing(
    engine: AsyncEngine,
) -> None:
    await statement(engine, "INSERT INTO counters VALUES ('a', '', 0, 1) RETURNING 1")
    with pytest.raises(DBAPIError):
        await statement(engine, "INSERT INTO counters VALUES ('a', '', 0, 1) RETURNING 1")
    assert await statement(engine, "SELECT name, value FROM counters") == [("a", 1)]


async def test_many_rows_of_one_statement_are_written_together(engine: AsyncEngine) -> None:
    insert = text("INSERT INTO counters VALUES (:name, current_setting('statement_timeout'), 0, 1)")
    async with autocommit(engine).connect() as connection:
        await connection.execute(insert, [{"name": "a"}, {"name": "b"}])
    assert await statement(engine, "SELECT name, label FROM counters ORDER BY name") == [
        ("a", "6s"),
        ("b", "6s"),
    ]


@both
async def test_a_cancellation_leaves_no_transaction_open(
    engine: AsyncEngine, stranger: "asyncpg.Connection[asyncpg.Record]", run: Any
) -> None:
    insert = "INSERT INTO counters VALUES ('a', '', 0, :value) ON CONFLICT (name, label, shard) DO UPDATE SET value = :value"

    async def write(value: int) -> None:
        await run(engine, f"{insert} RETURNING value", value=value)

    for number in range(1, SUSPENSIONS):
        cancelled = CancelledAt(write(number), number)
        task = asyncio.ensure_future(_awaited(cancelled))
        await asyncio.wait([task])
        # There is one session: a transaction that was left open would keep it.
        async with asyncio.timeout(30):
            value = await stranger.fetchval("SELECT coalesce(max(value), 0) FROM counters")
            await write(number)
        assert value in (number - 1, number)
        if cancelled.ended_before:
            return
    raise AssertionError("it suspends more often")


async def _awaited(work: CancelledAt) -> None:
    await work


async def test_who_waits_too_long_for_a_turn_ends_no_other_connection(
    pooler: PgBouncer, database: str
) -> None:
    async with opened(pooler.url(database), statement_timeout_seconds=0.5) as engine:
        async with engine.begin() as busy:
            await busy.execute(text("SELECT 1"))
            waiting = asyncio.ensure_future(statement(engine, "SELECT 1"))
            while not waiting.done():
                await busy.execute(text("SELECT pg_sleep(0.1)"))
            assert isinstance(waiting.exception(), DatabaseUnavailableError)
            await busy.execute(text("SELECT 2"))
        assert await statement(engine, "SELECT 3") == [(3,)]


async def test_the_pooler_refuses_what_a_connection_with_its_own_session_begins_with(
    pooler: PgBouncer, database: str
) -> None:
    async with opened(pooler.url(database), pooled=False) as engine:
        with pytest.raises(DatabaseUnavailableError) as caught:
            await statement(engine, "SELECT 1")
    assert "unsupported startup parameter" in reason_of(caught.value)
