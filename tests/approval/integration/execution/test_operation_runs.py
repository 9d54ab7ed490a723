"""How a run keeps its lease, and what of an executor's words is kept."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from approval.actions.grammar import parse_action
from approval.execution.runner import OperationLimits, Operations
from approval.executors.protocol import OperationFailedError, RunContext
from approval.executors.registry import Executors
from approval.lifecycle import repository
from approval.model import (
    Approval,
    DecisionKind,
    Execute,
    IncidentCheck,
    Operation,
    OperationKind,
    PlanCheck,
    Proposal,
    Risk,
    State,
    action_hash,
    new_approval_id,
)
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from tests.approval.schemas import rows
from tests.eventually import eventually

ACTION = "HTTP POST hook"
# Long enough for a slow machine to send a heartbeat, of which there are three in it.
LEASE = timedelta(seconds=3)
# Of UTF-8, as the contract says of what an operation said.
MOST_BYTES = 8192


class UnresolvedIncidents:
    """Every incident is there and unresolved: what these tests are about comes after that is asked."""

    async def check(self, incident_id: str) -> IncidentCheck:
        return IncidentCheck.UNRESOLVED


class Scripted:
    """An executor that says or raises what it is told, when it may."""

    kinds: Collection[OperationKind] = [OperationKind.HTTP]

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome
        self.started = asyncio.Event()
        self.may_end = asyncio.Event()

    async def plan(self, operation: Operation) -> Sequence[PlanCheck]:
        return []

    async def run(self, operation: Operation, context: RunContext) -> str:
        self.started.set()
        await self.may_end.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        said: str = self._outcome
        return said

    async def close(self) -> None:
        """There is nothing to let go of."""


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    async with _engine(database) as found:
        yield found


@asynccontextmanager
async def _engine(database: str) -> AsyncIterator[AsyncEngine]:
    found = create_engine(database, application_name="tests")
    try:
        yield found
    finally:
        await found.dispose()


def _operations(engine: AsyncEngine, executor: Scripted) -> Operations:
    return Operations(
        engine,
        Executors({"scripted": executor}),
        UnresolvedIncidents(),
        Outbox(),
        limits=OperationLimits(lease=LEASE),
        counter_shard=0,
    )


async def _approved(engine: AsyncEngine) -> Approval:
    approval_id = new_approval_id(attempt=3)
    operation = parse_action(ACTION)
    proposal = Proposal(
        incident_id="INC-20260507-99ADF2",
        action=ACTION,
        risk=Risk.LOW,
        rationale="",
        confidence=None,
        ttl=timedelta(hours=1),
        required_approvals=1,
        auto_execute=False,
    )
    async with engine.begin() as connection:
        await repository.insert(
            connection,
            approval_id,
            proposal,
            repository.ParsedAction(operation, "", action_hash(ACTION, operation)),
            proposed_by="ai",
            incident_verified=True,
        )
        approval = (await repository.get_for_update(connection, [approval_id]))[approval_id]
        await repository.insert_decision(
            connection, approval_id, actor="alice", kind=DecisionKind.APPROVE, reason=""
        )
        await repository.decide(connection, approval, State.APPROVED, message="", shard=0)
    return await _get(engine, approval_id)


async def _get(engine: AsyncEngine, approval_id: str) -> Approval:
    async with engine.connect() as connection:
        return (await repository.get(connection, [approval_id]))[approval_id]


async def _execute(operations: Operations, approval: Approval) -> Approval:
    execution = await operations.execute(approval, Execute(approval.approval_id), wait=True)
    return execution.approval


async def _is_past(database: str, seconds_ago: float) -> bool:
    """Whether the one run that there is began longer ago, by the clock that leases are counted by."""
    statement = "SELECT clock_timestamp() - execute_time > make_interval(secs => $1) FROM approvals"
    return bool((await rows(database, statement, seconds_ago))[0][0])


async def test_a_run_that_takes_longer_than_its_lease_keeps_it_and_is_declared_dead_by_nobody(
    database: str, engine: AsyncEngine
) -> None:
    executor = Scripted("done")
    approval = await _approved(engine)
    running = asyncio.create_task(_execute(_operations(engine, executor), approval))
    await executor.started.wait()
    async with _engine(database) as others_engine:
        other = _operations(others_engine, Scripted("nothing"))

        async def nobody_is_dead_until_the_first_lease_is_long_over() -> bool:
            assert await other.mark_abandoned() == 0
            return await _is_past(database, 1.5 * LEASE.total_seconds())

        await eventually(nobody_is_dead_until_the_first_lease_is_long_over)
    assert (await _get(engine, approval.approval_id)).state is State.EXECUTING
    executor.may_end.set()
    assert (await running).state is State.SUCCEEDED


async def test_a_run_whose_lease_was_taken_away_changes_nothing_any_more(
    database: str, engine: AsyncEngine
) -> None:
    executor = Scripted("done")
    operations = _operations(engine, executor)
    approval = await _approved(engine)
    running = asyncio.create_task(_execute(operations, approval))
    await executor.started.wait()
    # Its process stood still for longer than its lease, and another one looked.
    await rows(database, "UPDATE approvals SET execution_lease_until = now() - interval '1 second'")
    assert await operations.mark_abandoned() == 1
    executor.may_end.set()
    assert (await running).state is State.INDETERMINATE
    assert not await rows(database, "SELECT FROM auto_repair_executions")
    assert not await rows(database, "SELECT FROM outbox WHERE topic = 'incident.resolve'")


WORDS = {
    "nothing": ("", ""),
    "much": ("x" * 100_000, "x" * MOST_BYTES),
    "much_in_bytes": ("ü" * 100_000, "ü" * (MOST_BYTES // 2)),
    "a_character_that_is_cut": ("x" + "ü" * MOST_BYTES, "x" + "ü" * (MOST_BYTES // 2 - 1)),
    "nul": ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
    "half_a_character": ("a\ud800b", "a?b"),
    "no_text_at_all": (None, "None"),
}


@pytest.mark.parametrize(("said", "kept"), WORDS.values(), ids=WORDS)
@pytest.mark.parametrize("succeeds", [True, False], ids=["said", "raised"])
async def test_whatever_an_executor_says_its_outcome_is_kept(
    database: str, engine: AsyncEngine, succeeds: bool, said: object, kept: str
) -> None:
    executor = Scripted(said if succeeds else OperationFailedError(said))
    executor.may_end.set()
    ended = await _execute(_operations(engine, executor), await _approved(engine))
    assert ended.state is (State.SUCCEEDED if succeeds else State.FAILED)
    assert ended.outcome_message == kept
    words = (kept, "") if succeeds else ("", kept)
    assert await rows(database, "SELECT output, error FROM auto_repair_executions") == [words]


async def test_a_bug_of_an_executor_is_a_failure_that_tells_nothing_of_the_inside(
    engine: AsyncEngine,
) -> None:
    executor = Scripted(ZeroDivisionError("private-detail"))
    executor.may_end.set()
    ended = await _execute(_operations(engine, executor), await _approved(engine))
    assert ended.state is State.FAILED
    assert ended.outcome_message == "internal error of the executor scripted"
