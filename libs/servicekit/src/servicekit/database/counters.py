"""Counters that survive restarts and retention and are shared by replicas: rows, raised in the counting transaction.

A counter is spread over shards, and each process writes to one: callers in different processes seldom wait for the same
row. Reading sums a few rows a counter, not a history. A counter that is full stays so: no call fails for it.
"""

import random
from collections.abc import Mapping

from sqlalchemy import BigInteger, Column, MetaData, SmallInteger, Table, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

SHARDS = 64
# A counter that is full.
MAX_COUNT = 2**63 - 1

# For statements that raise counters as part of something larger, as `counters` rows (name, label, shard, value).
# Rows are locked in order of name and label, so that two statements cannot deadlock over them.
_RAISE = text("""
    INSERT INTO counters (name, label, shard, value)
    SELECT name, label, :shard, value
    FROM unnest(:names, :labels, :values) AS raised (name, label, value)
    ORDER BY name, label
    ON CONFLICT (name, label, shard) DO UPDATE SET
        value = least(counters.value::numeric + excluded.value, 9223372036854775807)::bigint
""").bindparams(
    bindparam("shard", type_=SmallInteger),
    bindparam("names", type_=ARRAY(Text)),
    bindparam("labels", type_=ARRAY(Text)),
    bindparam("values", type_=ARRAY(BigInteger)),
)

_READ = text(
    "SELECT name, label, least(sum(value), 9223372036854775807)::bigint FROM counters GROUP BY name, label"
)


def define_counters_table(metadata: MetaData) -> Table:
    """Define the table `counters` in `metadata`."""
    return Table(
        "counters",
        metadata,
        Column("name", Text, primary_key=True),
        # The value of the counter's one label, from a closed set; empty for a counter without.
        Column("label", Text, primary_key=True),
        Column("shard", SmallInteger, primary_key=True),
        Column("value", BigInteger, nullable=False),
        # Half-empty pages let an update stay on its page, without touching the index.
        postgresql_with={"fillfactor": 50},
    )


def choose_shard() -> int:
    """Return the shard that this process writes to."""
    return random.randrange(SHARDS)  # noqa: S311 - spreading load, not a secret


async def raise_counters(
    connection: AsyncConnection, amounts: Mapping[tuple[str, str], int], *, shard: int
) -> None:
    """Add `amounts`, by (name, label), in the caller's transaction."""
    keys = sorted(amounts)
    await connection.execute(
        _RAISE,
        {
            "shard": shard,
            "names": [name for name, _ in keys],
            "labels": [label for _, label in keys],
            "values": [amounts[key] for key in keys],
        },
    )


async def read_counters(connection: AsyncConnection) -> Mapping[tuple[str, str], int]:
    """Return every counter's value by (name, label); one that was never raised is not there."""
    return {(name, label): value for name, label, value in await connection.execute(_READ)}
