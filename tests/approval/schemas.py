"""The two services' databases, and a look into their tables."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import asyncpg

from servicekit.database.engine import create_engine
from servicekit.database.migrations import Migrations
from tests.databases import cloned_database
from tests.eventually import eventually
from tests.migrated import migrate_incident
from tests.outbox_due import AT_ONCE, make_due


async def migrate_approval(url: str) -> None:
    """Bring the database at `url` to the approval service's newest revision."""
    engine = create_engine(url, application_name="tests-migrate", pool_size=1, statement_timeout_seconds=0)
    try:
        await Migrations("approval:migrations").upgrade(engine)
    finally:
        await engine.dispose()


def incident_database() -> AbstractAsyncContextManager[str]:
    """The URL of an incident database of one's own."""
    return cloned_database("incident", migrate_incident)


def approval_database() -> AbstractAsyncContextManager[str]:
    """The URL of an approval database of one's own."""
    return cloned_database("approval", migrate_approval)


async def rows(url: str, statement: str, *arguments: object) -> Sequence[tuple[Any, ...]]:
    """The rows of a query; none of a statement that only writes."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *arguments)]
    finally:
        await connection.close()


async def past_triggers(url: str, statement: str, *arguments: object) -> None:
    """Run a statement past the triggers that keep history insert-only, as a restore does."""
    connection = await asyncpg.connect(url, server_settings={"session_replication_role": "replica"})
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


async def end_leases(url: str, after: timedelta = AT_ONCE) -> None:
    """Let every lease and backoff end `after` from now: what time does half a minute after the holder died."""
    connection = await asyncpg.connect(url)
    try:
        await make_due(connection, after)
    finally:
        await connection.close()


async def contents(url: str) -> Sequence[tuple[Any, ...]]:
    """Every row of every table with the transaction that wrote it: equal before and after what writes nothing.

    Taken when the outbox is at rest: what earlier calls left to be done in the background writes, too. Without the audit
    trail: a call that changes nothing is recorded there.
    """
    at_work = "SELECT FROM outbox WHERE state = 'PENDING'"
    await eventually(lambda: rows(url, at_work), lambda waiting: not waiting)
    named = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'audit%' ORDER BY 1"
    tables = await rows(url, named)
    found: list[tuple[Any, ...]] = []
    for (table,) in tables:
        statement = f'SELECT xmin::text, row_to_json(t)::text FROM "{table}" AS t ORDER BY 2'  # noqa: S608 - names from the catalogue
        found += await rows(url, statement)
    return found
