"""Lines on their way into the tables: kept in temporary tables, compared there, and what was imported before is known.

A temporary table holds a file of any size without the memory for it, and lets the database compare all lines at once.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, DateTime, MetaData, Table, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, Integer

from servicekit.importing.lines import Problem

# Rows written by one statement: enough to be fast, few enough that nothing grows with the file.
BATCH = 2_000


def define_imported_rows_table(metadata: MetaData) -> Table:
    """Define the table `imported_rows` in `metadata`."""
    return Table(
        "imported_rows",
        metadata,
        # Stays when the row itself is removed: what retention has removed is not imported again.
        Column("row_id", Text, primary_key=True),
        # Of the line: the same line again is known, another one with its id is a conflict.
        Column("content_hash", Text, nullable=False),
        Column("import_time", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    )


@dataclass(frozen=True, slots=True)
class StagedRow:
    """A line that is valid by itself. `content` is its canonical form, for comparison; `row` is what will be written."""

    file: int
    line: int
    row_id: str
    content: str
    row: Mapping[str, Any]


_CREATE = text("""
    CREATE TEMPORARY TABLE staged_rows (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        file integer NOT NULL,
        line bigint NOT NULL,
        row_id text NOT NULL,
        content_hash text NOT NULL,
        body jsonb NOT NULL
    ) ON COMMIT DROP
""")
_INDEX = text("CREATE INDEX ON staged_rows (row_id, position)")
_NOW = text("SELECT now()")


async def create(connection: AsyncConnection) -> datetime:
    """Make the temporary table of the caller's transaction, and return the time by the database's clock."""
    await connection.execute(_CREATE)
    await connection.execute(_INDEX)
    now: datetime = (await connection.execute(_NOW)).scalar_one()
    return now


_STAGE = text("""
    INSERT INTO staged_rows (file, line, row_id, content_hash, body)
    SELECT * FROM unnest(:files, :lines, :row_ids, :hashes, :bodies)
""").bindparams(
    bindparam("files", type_=ARRAY(Integer)),
    bindparam("lines", type_=ARRAY(BigInteger)),
    bindparam("row_ids", type_=ARRAY(Text)),
    bindparam("hashes", type_=ARRAY(Text)),
    bindparam("bodies", type_=ARRAY(JSONB)),
)


async def stage(connection: AsyncConnection, rows: Sequence[StagedRow]) -> None:
    """Keep lines, in the order in which they were read."""
    if not rows:
        return
    await connection.execute(
        _STAGE,
        {
            "files": [row.file for row in rows],
            "lines": [row.line for row in rows],
            "row_ids": [row.row_id for row in rows],
            "hashes": [hashlib.sha256(row.content.encode()).hexdigest() for row in rows],
            "bodies": [dict(row.row) for row in rows],
        },
    )


_ANALYZE = text("ANALYZE staged_rows")
_TWICE = text("""
    SELECT file, line, first_file, first_line FROM (
        SELECT file, line, row_number() OVER same AS place, first_value(file) OVER same AS first_file,
            first_value(line) OVER same AS first_line
        FROM staged_rows WINDOW same AS (PARTITION BY row_id ORDER BY position)
    ) AS numbered WHERE place > 1 ORDER BY file, line
""")
_CHANGED = text("""
    SELECT file, line FROM staged_rows JOIN imported_rows USING (row_id)
    WHERE staged_rows.content_hash <> imported_rows.content_hash ORDER BY file, line
""")


async def find_conflicts(
    connection: AsyncConnection, *, field: str, names: Sequence[str]
) -> AsyncIterator[Problem]:
    """Yield the lines whose id, the field `field`, is on a line before or was imported with other content.

    `names` are those of the files.
    """
    await connection.execute(_ANALYZE)
    for file, line, first_file, first_line in await connection.execute(_TWICE):
        yield Problem(file, line, field, f"is the same as in {names[first_file]}:{first_line}")
    for file, line in await connection.execute(_CHANGED):
        yield Problem(file, line, field, "was imported before with other content")


_DROP_KNOWN = text(
    "DELETE FROM staged_rows USING imported_rows WHERE staged_rows.row_id = imported_rows.row_id"
)
_REMEMBER = text("""
    INSERT INTO imported_rows (row_id, content_hash) SELECT row_id, content_hash FROM staged_rows ORDER BY row_id
""")
_LAST = text("SELECT coalesce(max(position), 0) FROM staged_rows")
# One import at a time writes.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('import'))")


async def lock(connection: AsyncConnection) -> None:
    """Wait until no other import writes to this database."""
    await connection.execute(_LOCK)


async def keep_new(connection: AsyncConnection) -> tuple[int, int]:
    """Leave only the lines that were never imported, and note them as imported; returns how many, and how many were."""
    known = (await connection.execute(_DROP_KNOWN)).rowcount
    new = (await connection.execute(_REMEMBER)).rowcount
    return new, known


async def batches(
    connection: AsyncConnection, progress: Callable[[int, int], None]
) -> AsyncIterator[Mapping[str, int]]:
    """Yield the staged rows a batch at a time, as the parameters `start` and `stop` of a range of positions.

    `progress` is called with the numbers of rows done and of all rows.
    """
    last: int = (await connection.execute(_LAST)).scalar_one()
    for start in range(1, last + 1, BATCH):
        yield {"start": start, "stop": start + BATCH}
        progress(min(start + BATCH - 1, last), last)
