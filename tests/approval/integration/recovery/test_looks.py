"""Looks one by one: in a row, lost in between, and beside another operation for the same incident."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import pytest_asyncio

from approval.execution.limits import OperationLimits
from approval.execution.model import ExecuteCommand
from approval.execution.runner import OperationRunner
from approval.execution.start import OperationStarts
from approval.executors.registry import load_executors
from approval.model import Recovery, State
from approval.notification.jobs import Notifications
from approval.recovery import repository as recovery_repository
from approval.recovery.model import RecoveryRules
from approval.recovery.use_cases import Verification
from approval.verifiers import Look, Repair
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from tests.approval.integration.execution.approved import get_approval, insert_approved
from tests.approval.integration.execution.unresolved import UnresolvedIncidents
from tests.approval.schemas import rows
from tests.calls import TESTER

RULES = RecoveryRules(
    window=timedelta(hours=1), interval=timedelta(0), looks=2, timeout=timedelta(seconds=10)
)
SILENT = Notifications(enabled=False)


class AlwaysGone:
    """A verifier for which the alert is gone at every look."""

    async def look(self, repair: Repair) -> Look:
        return Look(gone=True, message="gone")

    async def close(self) -> None:
        """There is nothing to release."""


class Looking:
    """The looks at the recovery of one operation that has worked."""

    def __init__(self, database: str, transactions: Transactions, approval_id: str) -> None:
        self._database = database
        self._transactions = transactions
        self._approval_id = approval_id
        self._verification = Verification(
            transactions,
            AlwaysGone(),
            UnresolvedIncidents(),
            RULES,
            check_timeout=timedelta(seconds=1),
            notifications=SILENT,
        )

    async def look(self) -> Recovery | None:
        """Look once; the recovery after that."""
        await rows(self._database, "UPDATE recoveries SET next_look_time = now() - interval '1 second'")
        await self._verification.look_batch()
        return (await get_approval(self._transactions, self._approval_id)).recovery

    @asynccontextmanager
    async def another_operation(self) -> AsyncIterator[None]:
        """Another operation for the same incident is executed, until the block ends: it fails."""
        other = await insert_approved(self._transactions, "RESTART deployment/web -n prod")
        statement = "UPDATE approvals SET state = $1 WHERE approval_id = $2"
        await rows(self._database, statement, State.EXECUTING, other.approval_id)
        yield
        await rows(self._database, statement, State.FAILED, other.approval_id)

    async def end_window(self) -> None:
        """Let the window be over."""
        await rows(self._database, "UPDATE recoveries SET deadline = now() - interval '1 hour'")

    async def lose_a_look(self) -> None:
        """Have a process claim a look and die, and its lease end."""
        await rows(self._database, "UPDATE recoveries SET next_look_time = now() - interval '1 second'")
        async with self._transactions.statement() as connection:
            assert await recovery_repository.claim(connection, lease=timedelta(minutes=1), limit=1)


@pytest_asyncio.fixture
async def looking(database: str) -> AsyncIterator[Looking]:
    engine = create_engine(database, application_name="tests")
    try:
        transactions = Transactions(engine, Outbox())
        approval = await insert_approved(transactions, "RESTART deployment/api -n prod")
        limits = OperationLimits()
        executors = load_executors(["dry-run"], {})
        starts = OperationStarts(
            transactions, executors, UnresolvedIncidents(), limits=limits, notifications=SILENT
        )
        runner = OperationRunner(transactions, starts, limits=limits, recovery=RULES)
        command = ExecuteCommand(approval.approval_id)
        ended = (await runner.execute(approval, command, call=TESTER, wait=True)).approval
        assert ended.recovery is Recovery.PENDING
        yield Looking(database, transactions, approval.approval_id)
    finally:
        await engine.dispose()


async def test_an_alert_that_is_gone_at_two_looks_in_a_row_is_gone(looking: Looking) -> None:
    assert [await looking.look() for _ in range(2)] == [Recovery.PENDING, Recovery.VERIFIED]


@pytest.mark.parametrize("times", [1, 2])
async def test_a_look_that_was_lost_in_between_begins_the_looks_in_a_row_anew(
    looking: Looking, times: int
) -> None:
    assert await looking.look() is Recovery.PENDING
    for _ in range(times):
        await looking.lose_a_look()
    assert [await looking.look() for _ in range(2)] == [Recovery.PENDING, Recovery.VERIFIED]


async def test_looks_count_only_when_no_other_operation_for_the_incident_runs(looking: Looking) -> None:
    assert await looking.look() is Recovery.PENDING
    async with looking.another_operation():
        # Which of the two has helped would be undetermined.
        assert [await looking.look() for _ in range(3)] == [Recovery.PENDING] * 3
    assert [await looking.look() for _ in range(2)] == [Recovery.PENDING, Recovery.VERIFIED]


async def test_a_window_does_not_end_while_another_operation_for_the_incident_runs(looking: Looking) -> None:
    async with looking.another_operation():
        await looking.end_window()
        assert await looking.look() is Recovery.PENDING
    assert [await looking.look() for _ in range(2)] == [Recovery.PENDING, Recovery.VERIFIED]
