"""Concurrent executions share one group commit, and each caller gets its own result."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import grpc.aio
import pytest
import pytest_asyncio

from approval.delivery.client import IncidentClient
from approval.errors import ApprovalChangedError, ApprovalNotFoundError
from approval.execution.handler import ExecuteHandler
from approval.execution.limits import OperationLimits
from approval.execution.model import ExecuteCommand, Executed
from approval.execution.runner import OperationRunner
from approval.execution.start import OperationStarts
from approval.execution.use_cases import ExecuteUseCase
from approval.executors.registry import Executors
from approval.model import State
from approval.notification.jobs import Notifications
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.queue import Job
from servicekit.outbox.transaction import Transactions
from tests.approval.integration.execution.approved import get_approval, insert_approved
from tests.calls import TESTER

UNKNOWN = "APR-20200101-00000000DEAD"


@pytest_asyncio.fixture
async def transactions(database: str) -> AsyncIterator[Transactions]:
    engine = create_engine(database, application_name="tests")
    yield Transactions(engine, Outbox())
    await engine.dispose()


@pytest_asyncio.fixture
async def executions(transactions: Transactions) -> AsyncIterator[ExecuteUseCase]:
    """Executions without executors: a NO_ACTION needs none, and no look-up of its incident."""
    second = timedelta(seconds=1)
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        incidents = IncidentClient(channel, check_timeout=second, resolve_timeout=second)
        limits = OperationLimits()
        starts = OperationStarts(
            transactions,
            Executors({}),
            incidents,
            limits=limits,
            notifications=Notifications(enabled=False),
        )
        runner = OperationRunner(transactions, starts, limits=limits, recovery=None)
        yield ExecuteUseCase(transactions, runner)


async def _approved(transactions: Transactions) -> str:
    return (await insert_approved(transactions, "NO_ACTION")).approval_id


async def _concurrently(
    executions: ExecuteUseCase, *commands: ExecuteCommand
) -> Sequence[Executed | BaseException]:
    """The results of calls that start in one turn of the event loop, and so share a group commit."""
    return await asyncio.gather(
        *(executions.execute(command, call=TESTER) for command in commands), return_exceptions=True
    )


async def test_concurrent_executions_of_many_approvals_each_return_their_own_approval(
    transactions: Transactions, executions: ExecuteUseCase
) -> None:
    ids = [await _approved(transactions) for _ in range(20)]
    results = await _concurrently(executions, *(ExecuteCommand(approval_id) for approval_id in ids))
    for approval_id, result in zip(ids, results, strict=True):
        assert isinstance(result, Executed)
        assert result.approval.approval_id == approval_id
        assert result.approval.state is State.SUCCEEDED
        assert not result.already_executed


async def test_concurrent_executions_of_one_approval_are_idempotent(
    transactions: Transactions, executions: ExecuteUseCase
) -> None:
    approval_id = await _approved(transactions)
    results = await _concurrently(executions, *(ExecuteCommand(approval_id) for _ in range(5)))
    executed = [result for result in results if isinstance(result, Executed)]
    assert sorted(result.already_executed for result in executed) == [False, True, True, True, True]
    assert {result.approval.state for result in executed} == {State.SUCCEEDED}


async def test_an_unknown_approval_fails_for_its_own_caller_only(
    transactions: Transactions, executions: ExecuteUseCase
) -> None:
    approval_id = await _approved(transactions)
    known, unknown = await _concurrently(executions, ExecuteCommand(approval_id), ExecuteCommand(UNKNOWN))
    assert isinstance(known, Executed)
    assert isinstance(unknown, ApprovalNotFoundError)


@pytest.mark.parametrize("first", ["stale", "fresh"])
async def test_a_stale_etag_is_refused_for_its_own_caller_only(
    transactions: Transactions, executions: ExecuteUseCase, first: str
) -> None:
    approval_id = await _approved(transactions)
    stale, fresh = ExecuteCommand(approval_id, etag="1"), ExecuteCommand(approval_id)
    commands = (stale, fresh) if first == "stale" else (fresh, stale)
    results = dict(zip(commands, await _concurrently(executions, *commands), strict=True))
    executed = results[fresh]
    assert isinstance(executed, Executed), executed
    assert executed.approval.state is State.SUCCEEDED
    # A stale etag that arrives after the execution gets the stored outcome.
    other = results[stale]
    assert isinstance(other, ApprovalChangedError) or (isinstance(other, Executed) and other.already_executed)


async def test_a_concurrent_call_with_a_stale_etag_does_not_make_the_worker_drop_its_job(
    transactions: Transactions, executions: ExecuteUseCase
) -> None:
    approval_id = await _approved(transactions)
    job = Job(1, "approval.execute", approval_id, {"approval_id": approval_id}, 1, uuid.uuid4())
    refused, delivered = await asyncio.gather(
        executions.execute(ExecuteCommand(approval_id, etag="1"), call=TESTER),
        ExecuteHandler(executions).deliver([job]),
        return_exceptions=True,
    )
    # The two calls may be in different flushes: a stale etag that arrives after the execution gets the stored outcome.
    assert isinstance(refused, ApprovalChangedError) or (
        isinstance(refused, Executed) and refused.already_executed
    )
    assert delivered == [None]
    # The job is marked done after this: an approval that is not executed now never is.
    assert (await get_approval(transactions, approval_id)).state is State.SUCCEEDED
