"""The number of statements of Resolve: one, for a replay and for a whole group commit too."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from incident.lifecycle.model import NewEvent, NewIncident, ResolveCommand, ResolveResult
from incident.lifecycle.resolve import ResolveUseCase
from incident.lifecycle.use_cases import IncidentUseCases
from incident.model import Effect, EventType, ResolutionType, Severity
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from tests.calls import TESTER


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
def transactions(engine: AsyncEngine) -> Transactions:
    return Transactions(engine, Outbox())


@pytest.fixture
def resolve(transactions: Transactions) -> ResolveUseCase:
    return ResolveUseCase(transactions, effects=dict.fromkeys(Effect))


@pytest.fixture
def statements(engine: AsyncEngine) -> list[str]:
    """The first words of the statements sent from now on."""
    sent: list[str] = []

    def execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement.split(maxsplit=1)[0])

    event.listen(engine.sync_engine, "before_cursor_execute", execute)
    return sent


async def opened(transactions: Transactions, number: int) -> Sequence[str]:
    use_cases = IncidentUseCases(transactions, reads=transactions, stuck_after=timedelta(minutes=30))
    new = NewIncident("disk full", Severity.HIGH)
    return [(await use_cases.create(new, call=TESTER)).incident.incident_id for _ in range(number)]


def command(incident_id: str) -> ResolveCommand:
    approval_id = incident_id.replace("INC", "APR")
    executed = NewEvent(
        event_id=f"{approval_id}/executed",
        incident_id=incident_id,
        type=EventType.EXECUTED,
        actor="tester",
        event_time=datetime.now(UTC),
        summary="",
        attributes={"approval_id": approval_id},
    )
    return ResolveCommand(
        incident_id,
        ResolutionType.NO_ACTION,
        "observed",
        "tester",
        approval_id=approval_id,
        approval_events=[executed],
    )


async def test_a_resolve_and_its_idempotent_replay_are_one_statement_each(
    transactions: Transactions, resolve: ResolveUseCase, statements: list[str]
) -> None:
    (incident_id,) = await opened(transactions, 1)
    statements.clear()
    assert not (await resolve.resolve(command(incident_id), call=TESTER)).already_resolved
    assert statements == ["WITH"]
    assert (await resolve.resolve(command(incident_id), call=TESTER)).already_resolved
    assert statements == ["WITH"] * 2


async def test_concurrent_resolves_share_at_most_two_group_commits(
    transactions: Transactions, resolve: ResolveUseCase, statements: list[str]
) -> None:
    incident_ids = await opened(transactions, 20)
    statements.clear()
    results = await asyncio.gather(*(resolve.resolve(command(each), call=TESTER) for each in incident_ids))
    assert [result.incident.incident_id for result in results] == incident_ids
    assert set(statements) == {"WITH"}
    assert len(statements) <= 2


async def test_a_batch_is_one_statement_for_each_chunk(
    transactions: Transactions, resolve: ResolveUseCase, statements: list[str]
) -> None:
    incident_ids = await opened(transactions, 3)
    statements.clear()
    outcomes = await resolve.batch_resolve([command(each) for each in incident_ids], call=TESTER)
    assert all(isinstance(each, ResolveResult) and not each.already_resolved for each in outcomes)
    assert statements == ["WITH"]


async def test_resolve_reads_every_table_by_an_index_condition(
    engine: AsyncEngine, transactions: Transactions, resolve: ResolveUseCase
) -> None:
    """Also on an empty database: the plan is kept while the tables grow."""
    (incident_id,) = await opened(transactions, 1)
    sent: list[tuple[str, Any]] = []
    event.listen(
        engine.sync_engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, parameters, *_: sent.append((statement, parameters)),
    )
    await resolve.resolve(command(incident_id), call=TESTER)
    ((statement, parameters),) = sent
    async with engine.connect() as connection:
        explained = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", tuple(parameters))
        plan = explained.scalar_one()[0]["Plan"]
    scans = [node for node in nodes(plan) if "Scan" in node["Node Type"] and "Relation Name" in node]
    assert {node["Relation Name"] for node in scans} == {"incidents", "incident_events"}
    assert [node["Alias"] for node in scans if "Index Cond" not in node] == []


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A plan's nodes."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)
