"""The lock order of approvals: concurrent transactions on the same ones do not deadlock."""

import asyncio
import dataclasses
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from approval.actions.parsed import parse
from approval.delivery import resolve_repository as deliveries
from approval.lifecycle import repository
from approval.model import Proposal, Risk
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from tests.eventually import eventually

FIRST, SECOND = "APR-20260507-AAAAAA", "APR-20260507-BBBBBB"
PROPOSAL = Proposal(
    incident_id="INC-20260507-99ADF2",
    action="NO_ACTION",
    risk=Risk.LOW,
    rationale="",
    confidence=None,
    ttl=timedelta(hours=1),
    required_approvals=1,
    auto_execute=False,
)


async def test_a_concurrent_acknowledgement_and_execution_of_the_same_approvals_do_not_deadlock(
    database: str,
) -> None:
    engine = create_engine(database, application_name="tests")
    transactions = Transactions(engine, Outbox())
    try:
        # Stored in the other order than their ids': a transaction that locks in the stored order starts with the second.
        for approval_id in (SECOND, FIRST):
            await _insert(transactions, approval_id)
        async with transactions.begin() as executing:
            await repository.get_for_update(executing.connection, FIRST)
            acknowledgement = asyncio.create_task(_acknowledge(transactions))
            await eventually(lambda: _is_waiting_for_a_lock(engine))
            # The second must still be free: with both locked the execution ends, and the acknowledgement goes on.
            locked = await repository.get_many_for_update(executing.connection, [FIRST, SECOND])
        await acknowledgement
        assert list(locked) == [FIRST, SECOND]
    finally:
        await engine.dispose()


async def test_expiry_is_judged_when_the_lock_is_held_not_when_the_transaction_began(database: str) -> None:
    engine = create_engine(database, application_name="tests")
    transactions = Transactions(engine, Outbox())

    async def locked_later() -> bool:
        async with transactions.begin() as transaction:
            return (await repository.get_for_update(transaction.connection, FIRST)).is_past_expiry

    expired = text("SELECT expire_time <= clock_timestamp() FROM approvals WHERE approval_id = :approval_id")
    try:
        await _insert(transactions, FIRST, ttl=timedelta(seconds=2))
        async with transactions.begin() as holder:
            await repository.get_for_update(holder.connection, FIRST)
            waiting = asyncio.create_task(locked_later())
            await eventually(lambda: _is_waiting_for_a_lock(engine))
            await eventually(lambda: holder.connection.scalar(expired, {"approval_id": FIRST}))
        assert await waiting
    finally:
        await engine.dispose()


async def _acknowledge(transactions: Transactions) -> None:
    async with transactions.begin() as transaction:
        await deliveries.acknowledge(transaction, [FIRST, SECOND])


async def _insert(
    transactions: Transactions, approval_id: str, *, ttl: timedelta = timedelta(hours=1)
) -> None:
    async with transactions.begin() as transaction:
        assert await repository.insert(
            transaction,
            approval_id,
            dataclasses.replace(PROPOSAL, request_id=approval_id, ttl=ttl),
            parse("NO_ACTION"),
            proposed_by="ai",
            incident_verified=True,
        )


async def _is_waiting_for_a_lock(engine: AsyncEngine) -> bool:
    statement = text("""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """)

    async with engine.connect() as connection:
        return bool((await connection.execute(statement)).scalar_one())
