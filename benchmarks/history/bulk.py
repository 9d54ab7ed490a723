"""Many rows in minutes: constraints, indexes and triggers go first and come back last, so that each is made once."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg

from benchmarks.errors import BenchmarkError

Step = Callable[[str], None]

# Primary and unique keys, and foreign keys, those of other tables to these too. CHECKs stay: they cost next to nothing.
_CONSTRAINTS = """
SELECT conrelid::regclass::text AS table_name, quote_ident(conname) AS name, pg_get_constraintdef(oid) AS definition,
    contype = 'f' AS is_foreign
FROM pg_constraint CROSS JOIN (SELECT $1::text[]::regclass[] AS filled) AS tables
WHERE contype IN ('p', 'u') AND conrelid = ANY (filled)
    OR contype = 'f' AND (conrelid = ANY (filled) OR confrelid = ANY (filled))
ORDER BY is_foreign, table_name, contype, name
"""
_INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
WHERE indrelid = ANY ($1::text[]::regclass[])
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u'))
ORDER BY name
"""


@asynccontextmanager
async def bulk_load(
    url: str, tables: Sequence[str], step: Step
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Give a connection that fills `tables`, which must be empty; afterwards everything on them is as it was, and ANALYZEd.

    PostgreSQL checks every key then. What is filled when that fails is of no use: it is a database made for this.
    """
    connection = await asyncpg.connect(url, command_timeout=None)
    try:
        for table in tables:
            if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):  # noqa: S608 - a name of this package
                raise BenchmarkError(f"{table} has rows: history is written into new databases only")
        await connection.execute(
            "SET statement_timeout = 0; SET synchronous_commit = off; SET maintenance_work_mem = '512MB'; "
            "SET work_mem = '128MB'; SET jit = off; SET client_min_messages = warning"
        )
        constraints = await connection.fetch(_CONSTRAINTS, list(tables))
        indexes = await connection.fetch(_INDEXES, list(tables))
        async with connection.transaction():
            for each in reversed(constraints):
                await connection.execute(f"ALTER TABLE {each['table_name']} DROP CONSTRAINT {each['name']}")
            for each in indexes:
                await connection.execute(f"DROP INDEX {each['name']}")
            for table in tables:
                await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield connection
        step("making indexes")
        for each in indexes:
            await connection.execute(each["definition"])
        step("checking keys")
        for each in constraints:
            await connection.execute(
                f"ALTER TABLE {each['table_name']} ADD CONSTRAINT {each['name']} {each['definition']}"
            )
        for table in tables:
            await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        step("analyzing")
        await connection.execute(f"VACUUM ANALYZE {', '.join(tables)}, audit_records")
    finally:
        await connection.close()
