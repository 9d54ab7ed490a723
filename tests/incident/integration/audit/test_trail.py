"""The trail in the database: what its function computes, what its triggers refuse, what an export of it shows."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import pytest
import pytest_asyncio

from awoooi.client import CallError
from incident.counters import INCIDENTS_OPENED
from servicekit.audit import export, repository
from servicekit.audit.chains import Chains
from servicekit.audit.model import Call, Entry, Outcome
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from tests.audit_trail import exported, problems, records
from tests.callers import incidents_at
from tests.incident.incidents import HUMAN
from tests.services import healthy_service

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

CALL = Call("a.Service/Do", "tester", "mtls", digest="ab" * 32)


@pytest_asyncio.fixture
async def transactions(database: str) -> AsyncIterator[Transactions]:
    engine = create_engine(database, application_name="tests", pool_size=8)
    yield Transactions(engine, Outbox())
    await engine.dispose()


@pytest_asyncio.fixture
async def own_rows(database: str) -> "AsyncIterator[Rows]":
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def recorded(transactions: Transactions, *targets: str) -> None:
    async with transactions.begin() as transaction:
        transaction.record(CALL, *targets)


async def append(transactions: Transactions, entries: Sequence[Entry], *, chain: int = 3) -> None:
    async with transactions.engine.begin() as connection:
        await repository.append(connection, chain, entries)


async def test_the_hash_of_the_database_is_that_of_the_document_for_every_text(
    transactions: Transactions, database: str
) -> None:
    texts = [
        "",
        "alice",
        "Ünal Öz",
        "\N{SNOWMAN}" * 300,
        'a "quote" \\ and\ttab',
        "1:1,",
        "\U0001f600",
        "\x7f",
    ]
    entries = [
        Entry(actor, "mtls", "a.Service/Do", targets, Outcome.REFUSED, "NOT_FOUND", reason, "", calls=2**62)
        for actor in texts
        for targets in ((), ("INC-1",), ("INC-1", "a b"))
        for reason in texts[:3]
    ]
    await append(transactions, entries)
    assert await problems(database, "incident") == []
    assert len(await records(database)) == len(entries)


async def test_a_transaction_that_is_rolled_back_leaves_no_record(
    transactions: Transactions, database: str
) -> None:
    with suppress(RuntimeError):
        async with transactions.begin() as transaction:
            transaction.record(CALL, "INC-1")
            raise RuntimeError
    # Also when the database itself refuses what follows the record.
    with suppress(Exception):
        async with transactions.begin() as transaction:
            transaction.record(CALL, "INC-1")
            transaction.count(INCIDENTS_OPENED, "\0")
    assert not CALL.recorded
    assert await records(database) == []
    await recorded(transactions, "INC-2")
    assert [each["targets"] for each in await records(database)] == ["INC-2"]


async def test_concurrent_transactions_of_several_processes_append_without_a_gap(
    transactions: Transactions, database: str
) -> None:
    """Their chains are chosen apart from each other, as those of processes are; on few chains they meet all the time."""
    engine = create_engine(database, application_name="tests", pool_size=8)
    other = Transactions(engine, Outbox())
    for each in (transactions, other):
        each.chains = Chains()
        for _ in range(29):
            each.chains._free.pop()
        each.chains._free.extend((1, 2, 3))
    try:
        await asyncio.gather(
            *(recorded(each, f"INC-{number}") for each in (transactions, other) for number in range(60))
        )
    finally:
        await engine.dispose()
    assert len(await records(database)) == 120
    assert await problems(database, "incident") == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_records SET actor = 'nobody'",
        "DELETE FROM audit_records",
        "TRUNCATE audit_records",
        "UPDATE incident_events SET summary = 'nothing happened'",
        "UPDATE incident_events SET xact_id = 0, actor = 'nobody'",
        "DELETE FROM incident_events",
    ],
)
async def test_even_the_owner_is_refused_by_a_trigger(
    transactions: Transactions, own_rows: "Rows", statement: str
) -> None:
    await recorded(transactions, "INC-1")
    await own_rows.execute(
        "INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by,"
        " content_hash) VALUES ('INC-20260507-99ADF2', '', '', 'HIGH', 'OPEN', '', '{}', '', 'tester', '')"
    )
    await own_rows.execute(
        "INSERT INTO incident_events (event_id, incident_id, type, actor, summary, resolution_number)"
        " VALUES ('1', 'INC-20260507-99ADF2', 'OPENED', 'tester', '', 0)"
    )
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
        await own_rows.execute(statement)
    await own_rows.execute("UPDATE incident_events SET xact_id = 0")
    await own_rows.execute("DELETE FROM incidents")
    assert await own_rows.fetchval("SELECT count(*) FROM incident_events") == 0


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE audit_records SET actor = 'nobody' WHERE sequence = 2", "was edited"),
        ("UPDATE audit_records SET time = time - interval '1 us' WHERE sequence = 2", "was edited"),
        ("DELETE FROM audit_records WHERE sequence = 2", "expected 2"),
        ("DELETE FROM audit_records WHERE sequence = 3", "is not the last record"),
        ("DELETE FROM audit_records WHERE sequence = 1", "no record in it says why"),
        ("UPDATE audit_chains SET sequence = 9 WHERE chain = 3", "is not the last record"),
    ],
)
async def test_what_is_changed_past_the_triggers_is_found_in_an_export(
    transactions: Transactions, database: str, statement: str, reason: str
) -> None:
    for number in range(3):
        await append(
            transactions, [Entry("a", "mtls", "b", (f"INC-{number}",), Outcome.CHANGED, "OK", "", "")]
        )
    assert await problems(database, "incident") == []
    connection = await asyncpg.connect(database, server_settings={"session_replication_role": "replica"})
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
    assert any(reason in problem.reason for problem in await problems(database, "incident"))


async def test_the_owner_prunes_and_the_trail_says_so(
    transactions: Transactions, database: str, own_rows: "Rows"
) -> None:
    for number in range(4):
        await append(
            transactions, [Entry("a", "mtls", "b", (f"INC-{number}",), Outcome.CHANGED, "OK", "", "")]
        )
    third = await own_rows.fetchval("SELECT time FROM audit_records WHERE sequence = 3")
    assert await own_rows.fetchval("SELECT audit_prune($1)", third) == 2
    assert [each["targets"] for each in await records(database, operation="b")] == ["INC-2", "INC-3"]
    (pruned,) = await records(database, operation="audit/prune")
    assert pruned["targets"].startswith("3:2:")
    assert pruned["method"] == "database"
    assert await problems(database, "incident") == []
    # All of a chain, the record of the pruning before included.
    assert await own_rows.fetchval("SELECT audit_prune(now() + interval '1 hour')") == 3
    assert await problems(database, "incident") == []


async def test_an_export_is_read_in_pages_and_ends_where_it_began(
    transactions: Transactions, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_PAGE", 7)
    entries = [
        Entry("a", "mtls", "b", (f"INC-{number}",), Outcome.CHANGED, "OK", "", "") for number in range(30)
    ]
    await append(transactions, entries)
    lines: list[bytes] = []
    async for page in export.export(transactions.engine, "incident"):
        # What is appended meanwhile is left to the next one.
        if not lines:
            await append(transactions, entries)
        assert page.count(b"\n") <= 32
        lines += page.splitlines(keepends=True)
    assert len(lines) == 1 + 30 + 32 + 1
    assert len(await exported(database, "incident")) == 1 + 60 + 32 + 1
    assert await problems(database, "incident") == []


@pytest.mark.parametrize(
    ("failpoint", "count"), [("resolve_before_statement", 0), ("resolve_after_commit", 1)]
)
async def test_a_killed_process_leaves_a_record_exactly_with_its_change(
    database: str, failpoint: str, count: int
) -> None:
    variables = {"FAILPOINTS": failpoint}
    async with (
        healthy_service("incident", database, variables=variables) as doomed,
        incidents_at(doomed.address) as incidents,
    ):
        incident_id = await incidents.opened_id()
        with pytest.raises(CallError):
            await incidents.resolve(incident_id, resolution_type=HUMAN)
        assert await doomed.ended() == -signal.SIGKILL
    found = await records(database, incident_id, operation="awoooi.incident.v1.IncidentService/Resolve")
    assert len(found) == count
    assert await problems(database, "incident") == []


async def test_a_service_that_is_stopped_writes_what_it_has_counted(database: str) -> None:
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        incident = await incidents.resolved()
        for _ in range(150):
            await incidents.resolve(incident.incident_id, resolution_type=HUMAN, note="again")
        service.send(signal.SIGTERM)
        assert await service.ended() == 0
    found = await records(database, outcome="UNCHANGED")
    assert sum(each["calls"] for each in found) == 150
