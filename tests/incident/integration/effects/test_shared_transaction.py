"""The effects in the own database of many resolutions are one transaction; what is wrong with one of them costs no other."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest_asyncio
from sqlalchemy import bindparam, event, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text

from incident.effects.own_database.handler import OWN_DATABASE_EFFECTS, OwnDatabaseHandler
from incident.effects.own_database.postmortem import PostmortemTemplate
from incident.lifecycle.effect_jobs import EffectPayload
from incident.lifecycle.model import ResolveCommand
from incident.lifecycle.resolve import ResolveUseCase
from incident.model import ResolutionType
from servicekit.audit.model import Call
from servicekit.database.engine import create_engine
from servicekit.outbox import queue
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transaction, Transactions
from tests.callers import Incidents
from tests.eventually import eventually
from tests.explained import scans
from tests.incident.incidents import NO_ACTION, effects_settled

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

RESOLUTIONS = 6
_JOBS = """
    SELECT payload ->> 'incident_id' AS incident_id, topic, state, attempts, last_error, lease_token IS NOT NULL AS leased
    FROM outbox WHERE topic = ANY ($1) ORDER BY job_id
"""
_TOPICS = [effect.topic for effect in OWN_DATABASE_EFFECTS]


async def resolved_together(incidents: Incidents, ids: list[str]) -> None:
    await asyncio.gather(*(incidents.resolve(each, resolution_type=NO_ACTION) for each in ids))


async def jobs(rows: "Rows") -> list[Any]:
    return await rows.fetch(_JOBS, _TOPICS)


async def test_one_effect_that_fails_neither_loses_nor_doubles_another(
    incidents: Incidents, rows: "Rows"
) -> None:
    ids = [(await incidents.opened()).incident_id for _ in range(RESOLUTIONS)]
    # Its place is taken: the postmortem of this one cannot be written.
    await rows.execute("INSERT INTO postmortems VALUES ($1, 1, 'HUMAN', 'taken')", ids[2])
    await resolved_together(incidents, ids)

    def only_one_left(found: list[Any]) -> bool:
        return [each["incident_id"] for each in found if each["state"] != "DONE"] == [ids[2]]

    found = await eventually(lambda: jobs(rows), only_one_left)
    (failed,) = [each for each in found if each["state"] != "DONE"]
    assert (failed["topic"], failed["state"]) == ("effect.postmortem", "PENDING")
    # The others were not tried once more with it.
    assert {each["attempts"] for each in found if each["state"] == "DONE"} == {1}

    await rows.execute("DELETE FROM postmortems WHERE incident_id = $1", ids[2])
    await effects_settled(rows)
    for table in ("postmortems", "dispositions", "knowledge_uses"):
        kept = await rows.fetch(f"SELECT incident_id, resolution_number FROM {table}")  # noqa: S608 - constants
        assert sorted(map(tuple, kept)) == sorted((each, 1) for each in ids), table
    assert await rows.fetchval("SELECT sum(use_count) FROM knowledge") == RESOLUTIONS
    assert (
        await rows.fetchval("SELECT sum(value)::int FROM counters WHERE name = 'incidents_resolved'")
        == RESOLUTIONS
    )
    done = await rows.fetch("SELECT incident_id FROM incident_events WHERE type = 'EFFECT_DONE'")
    assert Counter(row["incident_id"] for row in done) == dict.fromkeys(ids, len(OWN_DATABASE_EFFECTS))


@pytest_asyncio.fixture
async def transactions(database: str) -> AsyncIterator[Transactions]:
    """Units of work of a process without a worker: what is resolved waits."""
    engine = create_engine(database, application_name="tests")
    yield Transactions(engine, Outbox())
    await engine.dispose()


_OPEN = text("""
    INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by,
        content_hash)
    SELECT incident_id, 'title', '', 'HIGH', 'OPEN', '', '{}', '', '', '' FROM unnest(:ids) AS incident_id
""").bindparams(bindparam("ids", type_=ARRAY(Text)))


async def test_the_effects_of_forty_resolutions_are_as_many_statements_as_those_of_one(
    transactions: Transactions,
) -> None:
    handler = OwnDatabaseHandler(PostmortemTemplate(), postmortem_skip=frozenset())
    resolve = ResolveUseCase(transactions, effects=dict.fromkeys(OWN_DATABASE_EFFECTS))
    call = Call("test/Resolve", "alice", "loopback")
    statements: list[str] = []

    def remember(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(" ".join(statement.split())[:80])

    found: list[list[str]] = []
    for kind, amount in enumerate((1, 40)):
        ids = [f"INC-20261127-{kind:02X}{number:06X}" for number in range(amount)]
        async with transactions.begin() as transaction:
            await transaction.connection.execute(_OPEN, {"ids": ids})
        commands = [ResolveCommand(each, ResolutionType.HUMAN, "a note", actor="alice") for each in ids]
        await resolve.batch_resolve(commands, call=call)
        async with transactions.statement() as connection:
            claimed = await queue.claim(connection, dict.fromkeys(_TOPICS, 100), lease=timedelta(seconds=30))
        assert len(claimed) == amount * len(OWN_DATABASE_EFFECTS)
        statements.clear()
        event.listen(transactions.engine.sync_engine, "before_cursor_execute", remember)
        try:
            async with transactions.begin() as transaction:
                await handler.complete(transaction, [job for job, _ in claimed])
        finally:
            event.remove(transactions.engine.sync_engine, "before_cursor_execute", remember)
        found.append(list(statements))
    # Read, write, learn, index the new entry, count. The second time the entry is there, and is not indexed again.
    assert [len(each) for each in found] == [5, 4]
    assert set(found[1]) < set(found[0])


async def test_the_statements_read_the_resolutions_that_they_are_about(transactions: Transactions) -> None:
    handler = OwnDatabaseHandler(PostmortemTemplate(), postmortem_skip=frozenset())
    payload = EffectPayload("INC-20261127-ABCDEF", 1, ResolutionType.HUMAN, 1.0)
    jobs = [
        Job(number, topic, "key", payload.to_json(), 1, uuid.uuid4()) for number, topic in enumerate(_TOPICS)
    ]
    found = await scans(
        transactions.engine, lambda connection: handler.complete(Transaction(connection), jobs)
    )
    for table in ("incidents", "incident_events"):
        assert found[table]
        assert "" not in found[table], found
