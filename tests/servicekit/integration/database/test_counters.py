"""Counters: raised at once in many shards, and not when a transaction is rolled back."""

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.database.counters import choose_shard, raise_counters, read_counters

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]


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
