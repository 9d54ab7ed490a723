"""The database of a test, as connections of its own."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest_asyncio

from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]


@pytest_asyncio.fixture
async def transactions(database: str) -> AsyncIterator[Transactions]:
    engine = create_engine(database, application_name="tests", pool_size=4)
    yield Transactions(engine, Outbox())
    await engine.dispose()


@pytest_asyncio.fixture
async def rows(database: str) -> "AsyncIterator[Rows]":
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()
