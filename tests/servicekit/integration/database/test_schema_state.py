"""What a database's schema is to one version of one service: empty, behind, current, newer or another service's."""

import asyncio

import asyncpg
import pytest
import structlog
from sqlalchemy import text

from servicekit.database.engine import create_engine
from servicekit.database.errors import ForeignDatabaseError, is_refused, is_unavailable, reason_of
from servicekit.database.migrations import Migrations, Schema, SchemaState
from tests.approval.schemas import approval_database, contents, incident_database, rows
from tests.databases import empty_database
from tests.eventually import eventually

INCIDENT = Migrations("incident:migrations")
APPROVAL = Migrations("approval:migrations")
HEAD = INCIDENT._revisions.head


@pytest.mark.parametrize(
    ("revisions", "is_own", "state"),
    [
        ((), False, SchemaState.EMPTY),
        ((), True, SchemaState.EMPTY),
        (("0001",), True, SchemaState.BEHIND),
        ((HEAD,), True, SchemaState.CURRENT),
        (("0099",), True, SchemaState.NEWER),
        (("a-branch",), True, SchemaState.NEWER),
        # Also a revision of ours: the other service has one of the same number.
        (("0001",), False, SchemaState.FOREIGN),
        ((HEAD,), False, SchemaState.FOREIGN),
        (("0099",), False, SchemaState.FOREIGN),
    ],
)
def test_a_schema_is_judged_by_its_revision_and_by_whose_table_it_has(
    revisions: tuple[str, ...], is_own: bool, state: SchemaState
) -> None:
    assert INCIDENT.judge(Schema(frozenset(revisions), is_own=is_own)) is state


async def test_a_schema_of_a_newer_version_is_current_and_stays_as_it_is() -> None:
    async with incident_database() as url:
        await rows(url, "UPDATE alembic_version SET version_num = '0099'")
        before = await contents(url)
        engine = create_engine(url, application_name="tests", check=INCIDENT.require_own)
        with structlog.testing.capture_logs() as log:
            await INCIDENT.upgrade(engine)
        assert [(line["event"], line["revisions"]) for line in log] == [("migration_not_needed", ["0099"])]
        assert await INCIDENT.is_current(engine)
        await engine.dispose()
        assert await contents(url) == before


@pytest.mark.parametrize("revision", ["0001", HEAD, "0099"])
async def test_a_database_of_another_service_is_neither_migrated_nor_current_nor_connected_to(
    revision: str,
) -> None:
    async with incident_database() as url:
        await rows(url, "UPDATE alembic_version SET version_num = $1", revision)
        before = await contents(url)
        unchecked = create_engine(url, application_name="tests")
        with pytest.raises(ForeignDatabaseError, match="no table approvals"):
            await APPROVAL.upgrade(unchecked)
        assert not await APPROVAL.is_current(unchecked)
        await unchecked.dispose()
        engine = create_engine(url, application_name="tests", check=APPROVAL.require_own)
        with pytest.raises(ForeignDatabaseError) as caught:
            async with engine.connect():
                pass
        assert is_unavailable(caught.value)
        assert is_refused(caught.value)
        assert reason_of(caught.value) == str(caught.value)
        assert await contents(url) == before
        # Nothing is left open of what was refused.
        left = (
            "SELECT FROM pg_stat_activity WHERE application_name = 'tests' AND datname = current_database()"
        )
        await eventually(lambda: rows(url, left), lambda found: not found)
        await engine.dispose()


async def test_an_own_database_is_connected_to_before_and_after_its_migration() -> None:
    async with empty_database() as url:
        engine = create_engine(url, application_name="tests", check=APPROVAL.require_own)
        assert not await APPROVAL.is_current(engine)
        await APPROVAL.upgrade(engine)
        await engine.dispose()
        assert await APPROVAL.is_current(engine)
        await APPROVAL.downgrade(engine, revision="base")
        await engine.dispose()
        assert not await APPROVAL.is_current(engine)
        await engine.dispose()


async def test_of_two_services_that_migrate_one_empty_database_at_once_the_second_is_refused() -> None:
    async with empty_database() as url:
        engines = [create_engine(url, application_name="tests") for _ in range(2)]
        outcomes = await asyncio.gather(
            INCIDENT.upgrade(engines[0]), APPROVAL.upgrade(engines[1]), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ForeignDatabaseError", "NoneType"]
        for engine in engines:
            await engine.dispose()


async def test_a_check_that_fails_is_a_connection_that_fails(database: str) -> None:
    async def breaks(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    engine = create_engine(database, application_name="tests", check=breaks)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is checked below
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    assert is_unavailable(caught.value)
    await engine.dispose()


async def test_a_check_that_has_no_answer_in_time_ends(database: str) -> None:
    async def waits(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        await connection.execute("SELECT pg_sleep(60)")

    engine = create_engine(database, application_name="tests", check=waits, connect_timeout_seconds=0.5)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - as above
        async with engine.connect():
            pass
    assert is_unavailable(caught.value)
    assert reason_of(caught.value) == "no answer in time"
    await engine.dispose()


async def test_the_outbox_of_an_approval_database_is_not_the_incident_services() -> None:
    async with approval_database() as url:
        engine = create_engine(url, application_name="tests", check=INCIDENT.require_own)
        with pytest.raises(ForeignDatabaseError, match="no table incidents"):
            async with engine.connect():
                pass
        await engine.dispose()
