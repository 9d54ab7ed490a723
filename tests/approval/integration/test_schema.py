"""The migrations against the tables that the code is written for."""

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from approval.tables import metadata
from servicekit.database.engine import create_engine
from servicekit.database.migrations import Migrations
from tests.databases import empty_database


async def test_the_migrations_make_the_tables_of_the_code(database: str) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": False}
        )
        return list(compare_metadata(context, metadata))

    engine = create_engine(database, application_name="tests", pool_size=1)
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()


async def test_the_migrations_go_back_and_leave_nothing() -> None:
    migrations = Migrations("approval:migrations")
    async with empty_database() as url:
        engine = create_engine(url, application_name="tests", pool_size=1)
        try:
            await migrations.upgrade(engine)
            assert await migrations.is_current(engine)
            await migrations.downgrade(engine, revision="base")
            assert not await migrations.is_current(engine)
        finally:
            await engine.dispose()
        connection = await asyncpg.connect(url)
        try:
            left = await connection.fetch(
                """
                SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')
                    AND relname <> 'alembic_version'
                UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                """
            )
        finally:
            await connection.close()
    assert left == []


@pytest.mark.parametrize("state", ["", "DONE", "pending"])
async def test_an_unknown_state_violates_a_constraint(database: str, state: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        with pytest.raises(asyncpg.CheckViolationError) as caught:
            await connection.execute(
                """
                INSERT INTO approvals (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace,
                    hook, parse_error, action_hash, risk, rationale, required_approvals, auto_execute, proposed_by,
                    incident_verified, expire_time, content_hash, state)
                VALUES ('A', 'I', 'NO_ACTION', 'NO_ACTION', '', '', '', '', '', '', 'LOW', '', 1, true, 'ai', true, now(),
                    '', $1)
                """,
                state,
            )
    finally:
        await connection.close()
    assert caught.value.constraint_name == "approvals_state"


async def test_every_foreign_key_has_an_index(database: str) -> None:
    """Removing a row looks for those that refer to it: without an index it would read all of them."""
    connection = await asyncpg.connect(database)
    try:
        without = await connection.fetch(
            """
            SELECT conrelid::regclass::text, conname FROM pg_constraint
            WHERE contype = 'f' AND NOT EXISTS (
                SELECT FROM pg_index WHERE indrelid = conrelid AND indpred IS NULL
                    AND (indkey::int2[])[0:cardinality(conkey) - 1] @> conkey)
            """
        )
    finally:
        await connection.close()
    assert without == []
