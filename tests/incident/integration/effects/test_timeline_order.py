"""Sequence numbers of a timeline follow the order of commits, those of side effects too: no paging reader misses one."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from incident.effects.handler import EffectHandler
from incident.lifecycle.effect_jobs import EffectPayload, dedup_key
from incident.model import Effect, ResolutionType
from servicekit.database.engine import close_engine, create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction, Transactions
from tests.eventually import eventually

PAYLOAD = EffectPayload("INC-20260507-99ADF2", 1, ResolutionType.NO_ACTION, 1.0)
JOB = Job(1, Effect.WEBHOOK.topic, dedup_key(PAYLOAD.key), PAYLOAD.to_json(), 1, uuid.uuid4())


class Silent(EffectHandler):
    """An effect that writes no more than its entry on the timeline."""

    effect = Effect.WEBHOOK

    async def write(self, transaction: Transaction, resolutions: Any) -> None:
        pass


ENDINGS: dict[str, Callable[[Transaction], Coroutine[Any, Any, None]]] = {
    "done": lambda transaction: Silent().complete(transaction, [JOB]),
    "skipped": lambda transaction: Silent().skipped(transaction, [JOB], "not wanted"),
    "parked": lambda transaction: Silent().parked(transaction, JOB, "refused"),
}


@pytest_asyncio.fixture
async def transactions(database: str) -> AsyncIterator[Transactions]:
    engine = create_engine(database, application_name="tests-effect", statement_timeout_seconds=0)
    yield Transactions(engine, Outbox())
    await close_engine(engine)


@pytest_asyncio.fixture
async def incident_rows(database: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(database)
    await connection.execute(
        """
        INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source,
            opened_by, content_hash)
        VALUES ($1, 'disk full', '', 'HIGH', 'OPEN', '', '{}', '', 'tester', '')
        """,
        PAYLOAD.incident_id,
    )
    yield connection
    await connection.close()


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
async def test_a_side_effects_entry_waits_for_a_transaction_that_writes_the_timeline(
    transactions: Transactions,
    incident_rows: "asyncpg.Connection[asyncpg.Record]",
    database: str,
    ending: Callable[[Transaction], Coroutine[Any, Any, None]],
) -> None:
    async def end() -> None:
        async with transactions.begin() as transaction:
            await ending(transaction)

    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute(
            "SELECT FROM incidents WHERE incident_id = $1 FOR NO KEY UPDATE", PAYLOAD.incident_id
        )
        ended = asyncio.create_task(end())
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tests-effect' AND wait_event_type = 'Lock'"
        await eventually(lambda: incident_rows.fetchval(waiting), lambda count: count == 1)
        await other.execute(
            """
            INSERT INTO incident_events (event_id, incident_id, type, actor, summary, attributes, resolution_number)
            VALUES ('first', $1, 'NOTE', 'tester', '', '{}', 0)
            """,
            PAYLOAD.incident_id,
        )
    await ended
    await other.close()
    types = await incident_rows.fetch("SELECT type FROM incident_events ORDER BY sequence")
    assert types[0]["type"] == "NOTE"
    assert len(types) == 2
