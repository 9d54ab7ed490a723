"""A look whose process died is not known: it may have seen the alert, so the looks in a row begin anew."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from approval.execution.limits import OperationLimits
from approval.execution.model import ExecuteCommand
from approval.execution.runner import OperationRunner
from approval.execution.start import OperationStarts
from approval.executors.registry import load_executors
from approval.model import Recovery
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
