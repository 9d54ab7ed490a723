"""The lease of a run, and what of an executor's output is stored."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from approval.execution.abandoned import mark_abandoned
from approval.execution.errors import IncidentUnreachableError
from approval.execution.limits import OperationLimits
from approval.execution.model import ExecuteCommand
from approval.execution.runner import OperationRunner
from approval.execution.start import OperationStarts
from approval.executors import Operation, OperationFailedError, OperationKind, PlanCheck, RunContext
from approval.executors.registry import Executors
from approval.model import Approval, State
from approval.notification.jobs import Notifications
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from tests.approval.integration.execution.approved import get_approval, insert_approved
from tests.approval.integration.execution.unresolved import UnresolvedIncidents
from tests.approval.schemas import rows
from tests.calls import TESTER
from tests.eventually import eventually

ACTION = "HTTP POST hook"
# Long enough for a slow machine to send a heartbeat, of which there are three in it.
LEASE = timedelta(seconds=3)
# Of UTF-8, as the contract says of the output of an operation.
MAX_BYTES = 8192


class Scripted:
    """An executor that returns or raises a scripted outcome when `may_end` is set."""

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
        output: str = self._outcome
        return output

    async def close(self) -> None:
        """There is nothing to release."""


@pytest_asyncio.fixture
async def transactions(database: str) -> AsyncIterator[Transactions]:
    async with _transactions(database) as found:
        yield found


@asynccontextmanager
async def _transactions(database: str) -> AsyncIterator[Transactions]:
    engine = create_engine(database, application_name="tests")
    try:
        yield Transactions(engine, Outbox())
    finally:
        await engine.dispose()


def _runner(
    transactions: Transactions, executor: Scripted, incidents: UnresolvedIncidents | None = None
) -> OperationRunner:
    limits = OperationLimits(lease=LEASE)
    starts = OperationStarts(
        transactions,
        Executors({"scripted": executor}),
        incidents or UnresolvedIncidents(),
        limits=limits,
        notifications=Notifications(enabled=False),
    )
    return OperationRunner(transactions, starts, limits=limits, recovery=None)


async def _execute(runner: OperationRunner, approval: Approval) -> Approval:
    executed = await runner.execute(approval, ExecuteCommand(approval.approval_id), call=TESTER, wait=True)
    return executed.approval


async def _is_past(database: str, seconds_ago: float) -> bool:
    """Whether the one run that there is began longer ago, by the clock that leases are counted by."""
    statement = "SELECT clock_timestamp() - execute_time > make_interval(secs => $1) FROM approvals"
    return bool((await rows(database, statement, seconds_ago))[0][0])


async def test_a_run_that_takes_longer_than_its_lease_renews_it_and_is_not_marked_abandoned(
    database: str, transactions: Transactions
) -> None:
    executor = Scripted("done")
    approval = await insert_approved(transactions, ACTION)
    running = asyncio.create_task(_execute(_runner(transactions, executor), approval))
    await executor.started.wait()
    async with _transactions(database) as other:

        async def not_abandoned_until_the_first_lease_would_have_ended() -> bool:
            await mark_abandoned(other)
            assert (await get_approval(other, approval.approval_id)).state is State.EXECUTING
            return await _is_past(database, 1.5 * LEASE.total_seconds())

        await eventually(not_abandoned_until_the_first_lease_would_have_ended)
    executor.may_end.set()
    assert (await running).state is State.SUCCEEDED


async def test_a_run_that_lost_its_lease_writes_nothing(database: str, transactions: Transactions) -> None:
    executor = Scripted("done")
    runner = _runner(transactions, executor)
    approval = await insert_approved(transactions, ACTION)
    running = asyncio.create_task(_execute(runner, approval))
    await executor.started.wait()
    # Its process stood still for longer than its lease, and another one looked.
    await rows(database, "UPDATE approvals SET execution_lease_until = now() - interval '1 second'")
    await mark_abandoned(transactions)
    assert (await get_approval(transactions, approval.approval_id)).state is State.INDETERMINATE
    executor.may_end.set()
    assert (await running).state is State.INDETERMINATE
    assert not await rows(database, "SELECT FROM auto_repair_executions")
    assert not await rows(database, "SELECT FROM outbox WHERE topic = 'incident.resolve'")


async def test_a_run_that_lost_its_lease_before_it_was_announced_is_not_run(
    database: str, transactions: Transactions
) -> None:
    executor, incidents = Scripted("done"), UnresolvedIncidents()
    executor.may_end.set()
    incidents.may_answer.clear()
    approval = await insert_approved(transactions, ACTION)
    running = asyncio.create_task(_execute(_runner(transactions, executor, incidents), approval))
    await incidents.announced.wait()
    await rows(database, "UPDATE approvals SET execution_lease_until = now() - interval '1 second'")
    await mark_abandoned(transactions)
    # An operator may have it run again by now.
    incidents.may_answer.set()
    assert (await running).state is State.INDETERMINATE
    assert not executor.started.is_set()


async def test_an_indeterminate_one_that_cannot_be_announced_stays_as_it_was(
    database: str, transactions: Transactions
) -> None:
    executor = Scripted("done")
    approval = await insert_approved(transactions, ACTION)
    lost = asyncio.create_task(_execute(_runner(transactions, executor), approval))
    await executor.started.wait()
    await rows(database, "UPDATE approvals SET execution_lease_until = now() - interval '1 second'")
    await mark_abandoned(transactions)
    executor.may_end.set()
    before = await lost
    again = Scripted("done")
    runner = _runner(transactions, again, UnresolvedIncidents(away=True))
    command = ExecuteCommand(approval.approval_id, resume_indeterminate=True)
    with pytest.raises(IncidentUnreachableError):
        await runner.execute(before, command, call=TESTER, wait=True)
    after = await get_approval(transactions, approval.approval_id)
    assert after == replace(before, version=after.version, update_time=after.update_time)
    assert (before.state, after.version - before.version) == (State.INDETERMINATE, 2)
    assert not again.started.is_set()


OUTPUTS = {
    "nothing": ("", ""),
    "much": ("x" * 100_000, "x" * MAX_BYTES),
    "much_in_bytes": ("ü" * 100_000, "ü" * (MAX_BYTES // 2)),
    "a_character_that_is_cut": ("x" + "ü" * MAX_BYTES, "x" + "ü" * (MAX_BYTES // 2 - 1)),
    "escape_sequences": ("\x1b[31mdone\x1b[0m\r\nin 3 s", " [31mdone [0m\nin 3 s"),
    "an_override": ("a\u202eb", "a b"),
    "nul": ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
    "half_a_character": ("a\ud800b", "a?b"),
    "no_text_at_all": (None, "None"),
}


@pytest.mark.parametrize(("output", "stored"), OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("succeeds", [True, False], ids=["returned", "raised"])
async def test_no_output_of_an_executor_costs_the_outcome_of_its_run(
    database: str, transactions: Transactions, succeeds: bool, output: object, stored: str
) -> None:
    executor = Scripted(output if succeeds else OperationFailedError(output))
    executor.may_end.set()
    ended = await _execute(_runner(transactions, executor), await insert_approved(transactions, ACTION))
    assert ended.state is (State.SUCCEEDED if succeeds else State.FAILED)
    assert ended.outcome_message == stored
    logged = (stored, "") if succeeds else ("", stored)
    assert await rows(database, "SELECT output, error FROM auto_repair_executions") == [logged]


async def test_a_bug_of_an_executor_is_a_failure_that_discloses_no_details(
    transactions: Transactions,
) -> None:
    executor = Scripted(ZeroDivisionError("private-detail"))
    executor.may_end.set()
    ended = await _execute(_runner(transactions, executor), await insert_approved(transactions, ACTION))
    assert ended.state is State.FAILED
    assert ended.outcome_message == "internal error of the executor scripted"
