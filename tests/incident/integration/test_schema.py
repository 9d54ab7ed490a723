"""The migrations against the tables that the code is written for, and with data in them."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from incident.tables import metadata
from servicekit.database.engine import create_engine
from servicekit.database.migrations import Migrations
from tests.callers import incidents_at
from tests.databases import empty_database
from tests.incident.incidents import HUMAN, RESOLVED, effects_settled, token
from tests.services import healthy_service

MIGRATIONS = "incident:migrations"


def revisions() -> Sequence[str]:
    """Every revision, the oldest first."""
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    return [script.revision for script in reversed(list(scripts))]


async def schema(url: str) -> Sequence[tuple[Any, ...]]:
    """Tables, columns, indexes, constraints, triggers, functions and storage parameters, but for alembic's own."""
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(
            """
            SELECT 'column', table_name, column_name, concat_ws(' ', data_type, is_nullable,
                -- A number may be written as a number or as a text that becomes one.
                regexp_replace(column_default, '^''([0-9]+)''::[a-z]+$', '\\1'), is_identity, generation_expression)
            FROM information_schema.columns WHERE table_schema = 'public'
            UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace
            UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)
            FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL SELECT 'function', '', proname, pg_get_functiondef(oid)
            FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            UNION ALL SELECT 'storage', relname::text, '', array_to_string(reloptions, ' ')
            FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND reloptions IS NOT NULL
            ORDER BY 1, 2, 3, 4
            """
        )
    finally:
        await connection.close()
    return [tuple(row) for row in found if row[1] != "alembic_version"]


async def test_the_migrations_create_the_tables_of_the_code(database: str) -> None:
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


async def test_the_code_has_every_default_check_and_index_predicate_of_the_migrations(
    database: str,
) -> None:
    """The parts of a schema that alembic's comparison ignores."""
    kinds = ("column", "index", "constraint")
    async with empty_database() as url:
        engine = create_engine(url, application_name="tests", pool_size=1)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(metadata.create_all)
        finally:
            await engine.dispose()
        by_code = [each for each in await schema(url) if each[0] in kinds]
    assert [each for each in await schema(database) if each[0] in kinds] == by_code


async def test_each_migration_is_reversible_and_the_first_leaves_nothing() -> None:
    migrations = Migrations(MIGRATIONS)
    async with empty_database() as url:
        engine = create_engine(url, application_name="tests", pool_size=1)
        try:
            steps: dict[str, Any] = {"base": await schema(url)}
            for revision in revisions():
                await migrations.upgrade(engine, revision=revision)
                steps[revision] = await schema(url)
            assert await migrations.is_current(engine)
            assert len({str(step) for step in steps.values()}) == len(steps)
            for revision in reversed(steps):
                await migrations.downgrade(engine, revision=revision)
                assert await schema(url) == steps[revision], revision
            assert not await migrations.is_current(engine)
            assert steps["base"] == []
            await migrations.upgrade(engine)
            assert await schema(url) == steps[revisions()[-1]]
        finally:
            await engine.dispose()


async def contents(url: str, tables: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[Any]]:
    """Every row of these tables, as far as these columns go."""
    connection = await asyncpg.connect(url)
    try:
        return {
            table: await connection.fetch(f"SELECT {every} FROM {table} ORDER BY ROW({every})::text")  # noqa: S608 - names from the catalogue
            for table, every in ((table, ", ".join(columns)) for table, columns in tables.items())
        }
    finally:
        await connection.close()


async def columns_of(url: str) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for kind, table, column, _ in await schema(url):
        if kind == "column":
            found.setdefault(table, []).append(column)
    return found


@pytest.mark.parametrize("revision", revisions())
async def test_an_upgrade_keeps_the_data_of_a_database_in_use(database: str, revision: str) -> None:
    """From `revision` to the newest; the rows before the upgrade are made from rows of today."""
    symptom = token()
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        done = await incidents.resolved(title=f"{symptom} down", labels={"zone": "a"}, request_id=token())
        await incidents.reopen(done.incident_id, reason="it came back")
        await incidents.resolve(done.incident_id, resolution_type=HUMAN)
        waiting = await incidents.opened(fingerprint=token())
        connection = await asyncpg.connect(database)
        await effects_settled(connection)
        await connection.close()
        before = await incidents.stats()
        done = await incidents.get(done.incident_id)

    engine = create_engine(database, application_name="tests", pool_size=1)
    try:
        migrations = Migrations(MIGRATIONS)
        await migrations.downgrade(engine, revision=revision)
        known = await columns_of(database)
        old = await contents(database, known)
        assert {table for table, found in old.items() if found} >= {
            "incidents", "incident_events", "create_requests", "postmortems", "dispositions", "knowledge",
            "knowledge_uses", "outbox", "counters", "service_keys",
        }  # fmt: skip
        await migrations.upgrade(engine)
    finally:
        await engine.dispose()
    assert await contents(database, known) == old

    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        assert await incidents.get(done.incident_id) == done
        after = await incidents.stats()
        for each in (before, after):
            each.ClearField("read_time")
            each.server.ClearField("process_time")
        assert after == before
        matches = (await incidents.search_knowledge(symptom).page()).matches
        assert [match.entry.incident_id for match in matches] == [done.incident_id] * 2
        answer = await incidents.resolve(waiting.incident_id, resolution_type=HUMAN)
        assert (answer.incident.state, answer.already_resolved) == (RESOLVED, False)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        pytest.param("UPDATE incidents SET state = 'DONE'", "incidents_state", id="a state that is none"),
        pytest.param(
            "UPDATE incidents SET state = 'RESOLVED'", "incidents_resolved", id="resolved at no time"
        ),
        pytest.param(
            "UPDATE incidents SET resolve_time = now(), resolution_type = 'HUMAN'",
            "incidents_resolved",
            id="a resolution of an open incident",
        ),
        pytest.param("UPDATE outbox SET state = 'LOST'", "outbox_state", id="an effect's state that is none"),
    ],
)
async def test_the_tables_refuse_rows_that_violate_an_invariant(
    database: str, statement: str, constraint: str
) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            """
            INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by,
                content_hash)
            VALUES ('INC-20260507-99ADF2', 'disk full', '', 'HIGH', 'OPEN', '', '{}', '', 'tester', '')
            """
        )
        await connection.execute("INSERT INTO outbox (topic, dedup_key, payload) VALUES ('t', 'k', '{}')")
        with pytest.raises(asyncpg.CheckViolationError) as caught:
            await connection.execute(statement)
    finally:
        await connection.close()
    assert caught.value.constraint_name == constraint


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
