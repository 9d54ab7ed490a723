"""The rows of targets: one transaction at a time checks the limits of a target, whichever version of the service it is of."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from approval.execution import repository
from approval.execution.targets import remove_idle
from servicekit.database.engine import close_engine, create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from tests.approval.schemas import rows
from tests.eventually import eventually

TARGET = "deployment/api -n prod"
# What a process of the version before 0014 does.
LOCK_OF_BEFORE = f"SELECT pg_advisory_xact_lock(hashtextextended('{TARGET}', 0))"
LOCK_OF_LATER = "INSERT INTO targets VALUES ('deployment/api -n prod') ON CONFLICT (target) DO UPDATE SET claim_time = now()"
WAITING = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database, application_name="tests", pool_size=3)
    yield engine
    await close_engine(engine)


async def claim(engine: AsyncEngine, target: str = TARGET) -> None:
    async with engine.begin() as connection:
        await repository.lock_target(connection, target, "APR-20260507-99ADF1", within=timedelta(hours=1))


@pytest.mark.parametrize("lock", [LOCK_OF_BEFORE, LOCK_OF_LATER])
@pytest.mark.parametrize("known", [True, False])
async def test_a_claim_waits_for_that_of_another_version(
    engine: AsyncEngine, database: str, lock: str, known: bool
) -> None:
    if known:
        await claim(engine)
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute(lock)
        claiming = asyncio.ensure_future(claim(engine))
        await eventually(lambda: rows(database, WAITING))
        # Of another target it does not.
        await claim(engine, "deployment/worker -n prod")
        assert not claiming.done()
    await claiming
    await other.close()


@pytest.mark.parametrize("lock", [LOCK_OF_BEFORE, LOCK_OF_LATER])
async def test_another_version_waits_for_a_claim(engine: AsyncEngine, database: str, lock: str) -> None:
    other = await asyncpg.connect(database)
    async with engine.begin() as connection:
        await repository.lock_target(connection, TARGET, "APR-20260507-99ADF1", within=timedelta(hours=1))
        locking = asyncio.ensure_future(other.execute(lock))
        await eventually(lambda: rows(database, WAITING))
        assert not locking.done()
    await locking
    await other.close()


async def test_rows_of_idle_targets_are_removed_and_not_those_in_use(
    engine: AsyncEngine, database: str
) -> None:
    await rows(
        database,
        "INSERT INTO targets SELECT 'idle' || n, now() - interval '2 days' FROM generate_series(1, 3) n",
    )
    await claim(engine, "recent")
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("SELECT FROM targets WHERE target = 'idle2' FOR UPDATE")
        assert not await remove_idle(Transactions(engine, Outbox()))
    await other.close()
    assert await rows(database, "SELECT target FROM targets ORDER BY target") == [("idle2",), ("recent",)]
