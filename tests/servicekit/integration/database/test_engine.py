"""The engine against real failures: no server, a stopped one, a full pool; and counters and migrations."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from flywheel.postgres.embedded import EmbeddedPostgres
from incident.tables import metadata
from servicekit.database import migrations as migrations_module
from servicekit.database.counters import choose_shard, raise_counters, read_counters
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
from tests.databases import empty_database
from tests.eventually import eventually
from tests.servicekit.outbox_cases import Scripted, enqueue, running_worker, settings, until_state

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

INCIDENT = "incident:migrations"


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
        await Migrations(INCIDENT).upgrade(engine)
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


async def test_counters_raised_at_once_in_many_shards_sum_up(engine: AsyncEngine) -> None:
    amounts = {("a", "x"): 1, ("b", ""): 2, ("a", "y"): 3}

    async def raise_once(shard: int) -> None:
        async with engine.begin() as connection:
            await raise_counters(
                connection, dict(reversed(amounts.items()) if shard % 2 else amounts.items()), shard=shard % 4
            )

    await asyncio.gather(*(raise_once(shard) for shard in range(60)))
    async with engine.connect() as connection:
        assert await read_counters(connection) == {key: 60 * amount for key, amount in amounts.items()}


async def test_a_counter_raised_in_a_rolled_back_transaction_is_not_raised(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await raise_counters(connection, {("a", ""): 1}, shard=0)
        await connection.rollback()
        await raise_counters(connection, {}, shard=0)
        assert await read_counters(connection) == {}


def test_shards_are_within_their_range() -> None:
    assert {choose_shard() for _ in range(2000)} == set(range(64))


async def schema(url: str) -> dict[str, Any]:
    """Everything that a migration can leave in a database."""
    engine = create_engine(url, application_name="tests")
    questions = {
        "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public'",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace",
        "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "functions": "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
        "triggers": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
        "sequences": "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'",
    }
    async with engine.connect() as connection:
        found = {
            name: sorted(tuple(map(str, row)) for row in await connection.execute(text(question)))
            for name, question in questions.items()
        }
    await engine.dispose()
    return found


async def test_up_down_and_up_again_leave_what_up_alone_leaves() -> None:
    migrations = Migrations(INCIDENT)
    async with empty_database() as url:
        engine = create_engine(url, application_name="tests")
        before = await schema(url)
        await migrations.upgrade(engine)
        assert await migrations.is_current(engine)
        up = await schema(url)
        await migrations.downgrade(engine, revision="base")
        assert not await migrations.is_current(engine)
        down = await schema(url)
        for name, left in down.items():
            assert [row for row in left if "alembic_version" not in str(row)] == before[name], name
        await migrations.upgrade(engine)
        assert await schema(url) == up
        await engine.dispose()


async def test_the_migrations_build_what_the_tables_say(engine: AsyncEngine) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, metadata))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_checks_of_the_tables_are_those_of_the_migrations(database: str) -> None:
    """Alembic compares no CHECK constraint: a database made of the tables alone has to have the same ones."""
    async with empty_database() as url:
        other = create_engine(url, application_name="tests")
        async with other.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await other.dispose()
        built, made = (await schema(url))["constraints"], (await schema(database))["constraints"]
    assert [row for row in made if "CHECK" in row[2]] == [row for row in built if "CHECK" in row[2]]


async def test_processes_that_start_together_migrate_once() -> None:
    async with empty_database() as url:
        engines = [create_engine(url, application_name="tests") for _ in range(6)]
        await asyncio.gather(*(Migrations(INCIDENT).upgrade(engine) for engine in engines))
        async with engines[0].connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM service_keys")) == 1
        for engine in engines:
            await engine.dispose()


async def test_a_database_without_migrations_or_behind_is_not_current_and_one_ahead_is(database: str) -> None:
    engine = create_engine(database, application_name="tests")
    migrations = Migrations(INCIDENT)
    assert await migrations.is_current(engine)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'of-a-newer-version'"))
    assert await migrations.is_current(engine)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM alembic_version"))
    assert not await migrations.is_current(engine)
    await engine.dispose()


async def test_a_migration_that_waits_for_a_lock_lets_others_pass_and_tries_again(
    database: str, rows: "Rows", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations_module, "_LOCK_TIMEOUT", timedelta(milliseconds=100))
    monkeypatch.setattr(migrations_module, "_RETRY_SECONDS", 0.05)
    engine = create_engine(database, application_name="tests-migrating")
    async with rows.transaction():
        # A long transaction has read the table that the migration wants to drop.
        await rows.execute("SELECT * FROM counters")
        down = asyncio.create_task(Migrations(INCIDENT).downgrade(engine, revision="base"))
        waiting = """
            SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'tests-migrating' AND wait_event_type = 'Lock'
        """

        async def waits() -> int:
            await rows.execute("SELECT pg_stat_clear_snapshot()")
            count: int = await rows.fetchval(waiting)
            return count

        # It waits, gives up so that others are not held up behind it, and waits again.
        await eventually(waits)
        await eventually(waits, lambda count: not count)
        await eventually(waits)
        assert not down.done()
    await down
    assert await rows.fetchval("SELECT to_regclass('counters')") is None
    await engine.dispose()


async def test_a_migration_that_fails_leaves_nothing_behind(rows: "Rows", database: str) -> None:
    engine = create_engine(database, application_name="tests")
    await rows.execute("CREATE VIEW in_the_way AS SELECT * FROM incidents")
    before = await schema(database)
    with pytest.raises(DBAPIError):
        await Migrations(INCIDENT).downgrade(engine, revision="base")
    assert await schema(database) == before
    assert await Migrations(INCIDENT).is_current(engine)
    await engine.dispose()
