"""The engine against real failures: no server, a stopped one, a full pool."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from flywheel.postgres.embedded import EmbeddedPostgres
from servicekit.database.engine import create_engine
from servicekit.database.errors import (
    DatabaseUnavailableError,
    constraint_name,
    is_data_error,
    is_unavailable,
    reason_of,
    sqlstate,
)
from servicekit.database.migrations import Migrations
from tests.eventually import eventually
from tests.servicekit.outbox_cases import Scripted, enqueue, running_worker, settings, until_state

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]


async def answers(engine: AsyncEngine) -> bool:
    """Whether the database answers a statement now."""
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except Exception as exc:
        if is_unavailable(exc):
            return False
        raise
    return True


async def failure(engine: AsyncEngine, statement: str) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what it is, is what the tests ask
        async with engine.begin() as connection:
            await connection.execute(text(statement))
    return caught.value


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    engine = create_engine("postgresql://u:hunter2@127.0.0.1:1/x", application_name="tests")
    error = await failure(engine, "SELECT 1")
    assert isinstance(error, DatabaseUnavailableError)
    assert is_unavailable(error)
    assert not await answers(engine)


async def test_a_database_that_is_not_there_is_unavailable(database: str) -> None:
    engine = create_engine(database.replace("/incident_", "/none_"), application_name="tests")
    assert is_unavailable(await failure(engine, "SELECT 1"))


async def test_while_no_host_matches_target_session_attrs_the_database_is_unavailable(database: str) -> None:
    engine = create_engine(f"{database}&target_session_attrs=standby", application_name="tests")
    error = await failure(engine, "SELECT 1")
    assert is_unavailable(error)
    assert reason_of(error).startswith("None of the hosts match")


async def test_a_server_that_stops_and_starts_again_is_unavailable_in_between_and_jobs_flow_on(
    tmp_path: Path,
) -> None:
    """A worker in the middle of it all: nothing is lost, and each job completes once."""
    import asyncpg  # noqa: PLC0415 - for one call

    postgres = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    await asyncio.to_thread(postgres.start)
    try:
        postgres.create_database("incident")
        engine = create_engine(postgres.url("incident"), application_name="tests")
        await Migrations("incident:migrations").upgrade(engine)
        handler = Scripted()
        async with running_worker(engine, handler, settings(poll=timedelta(milliseconds=50))):
            await enqueue(engine, range(20))
            assert await answers(engine)
            await asyncio.to_thread(postgres.stop)
            # Connections that were idle in the pool, and new ones.
            for _ in range(12):
                assert is_unavailable(await failure(engine, "SELECT 1"))
            assert not await answers(engine)
            await asyncio.to_thread(postgres.start)
            await eventually(lambda: answers(engine))
            await enqueue(engine, range(20, 40))
            rows = await asyncpg.connect(postgres.url("incident"))
            await until_state(rows, "DONE", *range(40))
            await rows.close()
        assert Counter(handler.completed) == {str(number): 1 for number in range(40)}
        await engine.dispose()
    finally:
        await asyncio.to_thread(postgres.stop)


async def test_a_connection_that_was_killed_is_unavailable_once_and_replaced(
    engine: AsyncEngine, rows: "Rows"
) -> None:
    async with engine.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        await rows.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text("SELECT 1"))
    assert is_unavailable(caught.value)
    assert await answers(engine)


async def test_waiting_for_a_full_pool_ends(database: str) -> None:
    engine = create_engine(database, application_name="tests", pool_size=1, pool_timeout_seconds=0.1)
    async with engine.connect():
        error = await failure(engine, "SELECT 1")
    assert isinstance(error, PoolTimeoutError)
    assert is_unavailable(error)
    assert await answers(engine)
    await engine.dispose()


async def test_a_statement_that_takes_too_long_is_ended_and_unavailable(database: str) -> None:
    engine = create_engine(database, application_name="tests", statement_timeout_seconds=0.1)
    error = await failure(engine, "SELECT pg_sleep(60)")
    assert sqlstate(error) == "57014"
    assert is_unavailable(error)
    await engine.dispose()


@pytest.mark.parametrize(
    ("statement", "code", "unavailable", "data"),
    [
        ("SELECT 1/0", "22012", False, True),
        ("INSERT INTO service_keys VALUES ('page_tokens', '')", "23505", False, True),
        ("SELECT * FROM nothing", "42P01", True, False),
        ("SELECT nothing FROM incidents", "42703", True, False),
        ("SELEC", "42601", False, False),
    ],
)
async def test_what_an_error_of_a_statement_means(
    engine: AsyncEngine, statement: str, code: str, unavailable: bool, data: bool
) -> None:
    error = await failure(engine, statement)
    assert (sqlstate(error), is_unavailable(error), is_data_error(error)) == (code, unavailable, data)


async def test_a_violated_constraint_is_named(engine: AsyncEngine) -> None:
    error = await failure(engine, "INSERT INTO service_keys VALUES ('page_tokens', '')")
    assert constraint_name(error) == "service_keys_pkey"
    assert constraint_name(ValueError()) is None


async def test_a_session_is_set_up_for_short_statements_in_utc(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        shown = [
            await connection.scalar(text(f"SHOW {name}"))
            for name in ("timezone", "jit", "application_name", "statement_timeout")
        ]
    assert shown == ["UTC", "off", "tests", "6s"]
