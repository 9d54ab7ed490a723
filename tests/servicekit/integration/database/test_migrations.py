"""Migrations: up, down and up again, together, behind a lock, and failing."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from incident.tables import metadata
from servicekit.database import migrations as migrations_module
from servicekit.database.engine import create_engine
from servicekit.database.migrations import Migrations
from tests.databases import empty_database
from tests.eventually import eventually

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]


INCIDENT = "incident:migrations"


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


async def test_a_migration_in_a_deadlock_with_a_running_service_tries_again(
    database: str, rows: "Rows", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations_module, "_RETRY_SECONDS", 0.05)
    name = await rows.fetchval("SELECT current_database()")
    # Of the two it is the migration that finds it.
    await rows.execute("SET deadlock_timeout = '1h'")
    await rows.execute(f"ALTER DATABASE \"{name}\" SET deadlock_timeout = '3s'")
    engine = create_engine(database, application_name="tests-migrating")
    async with rows.transaction():
        # It changes the table of jobs first, and that of counters last.
        await rows.execute("SELECT FROM counters")
        down = asyncio.create_task(Migrations(INCIDENT).downgrade(engine, revision="base"))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'counters'::regclass"
        await eventually(lambda: rows.fetchval(waiting))
        await rows.execute("SELECT FROM outbox")
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
