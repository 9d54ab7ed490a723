"""The rows that an import has written."""

from collections.abc import Sequence
from typing import Any

import asyncpg


async def fetch(database: str, statement: str, *arguments: object) -> Sequence[tuple[Any, ...]]:
    connection = await asyncpg.connect(database)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *arguments)]
    finally:
        await connection.close()


async def counters(database: str) -> dict[tuple[str, str], int]:
    found = await fetch(database, "SELECT name, label, sum(value)::bigint FROM counters GROUP BY 1, 2")
    return {(name, label): value for name, label, value in found}
