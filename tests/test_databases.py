"""The databases that tests get: each its own, migrated once."""

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.databases import cloned_database, database_fixture, empty_database, postgres_url

migrated: list[str] = []


async def migrate(url: str) -> None:
    migrated.append(url)
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE kept (value int); INSERT INTO kept VALUES (1)")
    await connection.close()


database = database_fixture("databases_test", migrate)


async def value(url: str, query: str, *arguments: Any) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


@pytest.mark.parametrize("run", [1, 2])
async def test_each_test_has_a_fresh_database_with_the_schema(database: str, run: int) -> None:
    assert (
        await value(database, "INSERT INTO kept VALUES (2) RETURNING (SELECT sum(value) FROM kept)") == 1
    ), run


async def test_many_at_once_are_copies_of_one_migration() -> None:
    migrated.clear()

    async def use() -> str:
        async with cloned_database("databases_test_many", migrate) as url:
            assert await value(url, "SELECT value FROM kept") == 1
            return url

    urls = await asyncio.gather(*(use() for _ in range(8)))
    assert len(set(urls)) == 8
    assert len(migrated) == 1


async def test_a_database_is_dropped_also_from_under_an_open_connection() -> None:
    async with empty_database() as url:
        name = await value(url, "SELECT current_database()")
        connection = await asyncpg.connect(url)
    assert await value(postgres_url(), "SELECT count(*) FROM pg_database WHERE datname = $1", name) == 0
    connection.terminate()


async def test_a_migration_that_fails_leaves_no_half_made_template() -> None:
    async def fail(url: str) -> None:
        await migrate(url)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with cloned_database("databases_test_failing", fail):
            pass
    async with cloned_database("databases_test_failing", migrate) as url:
        assert await value(url, "SELECT value FROM kept") == 1
