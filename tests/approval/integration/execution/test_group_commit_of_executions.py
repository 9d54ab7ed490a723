"""Executions that are joined into one transaction: each caller gets what is its own."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import grpc.aio
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from approval.actions.grammar import parse_action
from approval.delivery.client import IncidentClient
from approval.delivery.handlers import ExecuteHandler
from approval.errors import ApprovalChangedError, ApprovalNotFoundError
from approval.execution.runner import OperationLimits, Operations
from approval.execution.use_cases import Executions
from approval.executors.registry import load_executors
from approval.lifecycle import repository
from approval.model import (
    DecisionKind,
    Execute,
    Execution,
    Proposal,
    Risk,
    State,
    action_hash,
    new_approval_id,
)
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.queue import Job

UNKNOWN = "APR-20200101-00000000DEAD"


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    found = create_engine(database, application_name="tests")
    yield found
    await found.dispose()


@pytest_asyncio.fixture
async def executions(engine: AsyncEngine) -> AsyncIterator[Executions]:
    """Executions without executors: what is executed here needs none, and asks nobody about the incident."""
    outbox = Outbox()
    executors = load_executors([], {})
    second = timedelta(seconds=1)
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        incidents = IncidentClient(channel, check_timeout=second, resolve_timeout=second)
        operations = Operations(
            engine, executors, incidents, outbox, limits=OperationLimits(), counter_shard=0
        )
        yield Executions(engine, operations, outbox=outbox, executors=executors, counter_shard=0)


async def _approved(engine: AsyncEngine) -> str:
    """The id of an approval that was approved, whose etag was another before."""
    approval_id = new_approval_id(attempt=3)
    operation = parse_action("NO_ACTION")
    proposal = Proposal(
        incident_id="INC-20260507-99ADF2",
        action="NO_ACTION",
        risk=Risk.LOW,
        rationale="",
        confidence=None,
        ttl=timedelta(hours=1),
        required_approvals=1,
        auto_execute=True,
    )
    async with engine.begin() as connection:
        await repository.insert(
            connection,
            approval_id,
            proposal,
            repository.ParsedAction(operation, "", action_hash("NO_ACTION", operation)),
            proposed_by="ai",
            incident_verified=True,
        )
        approval = (await repository.get_for_update(connection, [approval_id]))[approval_id]
        await repository.insert_decision(
            connection, approval_id, actor="alice", kind=DecisionKind.APPROVE, reason=""
        )
        await repository.decide(connection, approval, State.APPROVED, message="", shard=0)
    return approval_id


async def _together(executions: Executions, *commands: Execute) -> Sequence[Execution | BaseException]:
    """What each gets of calls that start in one turn of the event loop, and so join one transaction."""
    return await asyncio.gather(
        *(executions.execute(command) for command in commands), return_exceptions=True
    )


async def test_many_approvals_are_executed_together(engine: AsyncEngine, executions: Executions) -> None:
    ids = [await _approved(engine) for _ in range(20)]
    outcomes = await _together(executions, *(Execute(approval_id) for approval_id in ids))
    for approval_id, outcome in zip(ids, outcomes, strict=True):
        assert isinstance(outcome, Execution)
        assert outcome.approval.approval_id == approval_id
        assert outcome.approval.state is State.SUCCEEDED
        assert not outcome.already_executed


async def test_of_several_wishes_for_one_approval_one_executes(
    engine: AsyncEngine, executions: Executions
) -> None:
    approval_id = await _approved(engine)
    outcomes = await _together(executions, *(Execute(approval_id) for _ in range(5)))
    found = [outcome for outcome in outcomes if isinstance(outcome, Execution)]
    assert len(found) == 5
    assert sorted(outcome.already_executed for outcome in found) == [False, True, True, True, True]


async def test_an_unknown_approval_fails_for_its_own_caller_only(
    engine: AsyncEngine, executions: Executions
) -> None:
    approval_id = await _approved(engine)
    known, unknown = await _together(executions, Execute(approval_id), Execute(UNKNOWN))
    assert isinstance(known, Execution)
    assert isinstance(unknown, ApprovalNotFoundError)


@pytest.mark.parametrize("first", ["stale", "fresh"])
async def test_a_stale_etag_is_refused_to_the_caller_that_sent_it_and_to_nobody_else(
    engine: AsyncEngine, executions: Executions, first: str
) -> None:
    approval_id = await _approved(engine)
    stale, fresh = Execute(approval_id, etag="1"), Execute(approval_id)
    commands = (stale, fresh) if first == "stale" else (fresh, stale)
    outcomes = dict(zip(commands, await _together(executions, *commands), strict=True))
    executed = outcomes[fresh]
    assert isinstance(executed, Execution), executed
    assert executed.approval.state is State.SUCCEEDED
    # Who is too late for a stale etag to matter sees what was executed.
    other = outcomes[stale]
    assert isinstance(other, ApprovalChangedError) or (
        isinstance(other, Execution) and other.already_executed
    )


async def test_a_callers_stale_etag_does_not_make_the_worker_drop_its_job(
    engine: AsyncEngine, executions: Executions
) -> None:
    approval_id = await _approved(engine)
    job = Job(1, "approval.execute", approval_id, {"approval_id": approval_id}, 1, uuid.uuid4())
    refusal, undone = await asyncio.gather(
        executions.execute(Execute(approval_id, etag="1")),
        ExecuteHandler(executions).deliver([job]),
        return_exceptions=True,
    )
    assert isinstance(refusal, ApprovalChangedError)
    assert undone == [None]
    async with engine.connect() as connection:
        (approval,) = (await repository.get(connection, [approval_id])).values()
    # The job is marked done after this: what is not executed now never is.
    assert approval.state is State.SUCCEEDED
