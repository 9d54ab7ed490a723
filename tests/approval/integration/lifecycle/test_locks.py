"""The order in which transactions lock approvals: two that want the same ones never wait for each other."""

import asyncio
import dataclasses
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from approval.lifecycle import repository
from approval.model import Operation, OperationKind, Proposal, Risk
from servicekit.database.engine import create_engine
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


async def test_an_acknowledgement_and_an_execution_of_the_same_approvals_do_not_deadlock(
    database: str,
) -> None:
    engine = create_engine(database, application_name="tests")
    try:
        # Stored in the other order than their ids': whoever locks as it finds them starts with the second.
        for approval_id in (SECOND, FIRST):
            await _insert(engine, approval_id)
        async with engine.connect() as executing, engine.connect() as acknowledging:
            await repository.get_for_update(executing, [FIRST])
            acknowledgement = asyncio.create_task(
                repository.acknowledge(acknowledging, [FIRST, SECOND], shard=0)
            )
            await eventually(lambda: _somebody_waits(engine))
            # The second must still be free: with both in hand the execution ends, and the acknowledgement goes on.
            locked = await repository.get_for_update(executing, [FIRST, SECOND])
            await executing.commit()
            await acknowledgement
            await acknowledging.commit()
        assert list(locked) == [FIRST, SECOND]
    finally:
        await engine.dispose()


async def _insert(engine: AsyncEngine, approval_id: str) -> None:
    parsed = repository.ParsedAction(Operation(OperationKind.NO_ACTION), "", "hash")
    async with engine.begin() as connection:
        assert await repository.insert(
            connection,
            approval_id,
            dataclasses.replace(PROPOSAL, request_id=approval_id),
            parsed,
            proposed_by="ai",
            incident_verified=True,
        )


async def _somebody_waits(engine: AsyncEngine) -> bool:
    statement = text("""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """)

    async with engine.connect() as connection:
        return bool((await connection.execute(statement)).scalar_one())
