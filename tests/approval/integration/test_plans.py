"""The statements of batches read the approvals that they are about: their plans are kept while the table grows."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from approval.delivery import comparison_repository as comparison
from approval.delivery import resolve_repository as delivery
from approval.delivery.model import ComparedApproval
from approval.execution import repository as execution
from approval.lifecycle import repository as lifecycle
from approval.notification import repository as notification
from approval.recovery import repository as recovery
from servicekit.database.engine import create_engine
from servicekit.outbox.transaction import Transaction
from tests.explained import scans

MINUTE = timedelta(minutes=1)
COMPARED = [ComparedApproval("APR-1", "INC-1", 1, None, is_acknowledged=True, is_unknown=False, version=1)]
OUTCOMES: Any = [
    (
        SimpleNamespace(approval_id="APR-1", state="APPROVED", canary=False),
        SimpleNamespace(state="SUCCEEDED", message="", counted_as="x"),
    )
]

Run = Callable[[Transaction], Awaitable[object]]

OF_GIVEN_APPROVALS: dict[str, Run] = {
    "record outcomes": lambda transaction: execution.record_outcomes(transaction, OUTCOMES),
    "acknowledge": lambda transaction: delivery.acknowledge(transaction, ["APR-1"]),
    "withdraw": lambda transaction: comparison.withdraw_acknowledgements(transaction, COMPARED),
    "mark unknown": lambda transaction: comparison.mark_unknown(transaction, COMPARED),
    "mark known": lambda transaction: comparison.mark_known(transaction, COMPARED),
}
# They find what is due by a partial index, in its order and up to a limit.
OF_DUE_ONES: dict[str, tuple[str, Run]] = {
    "accept unknown": (
        "approvals",
        lambda transaction: comparison.accept_unknown(transaction, actor="alice", limit=10),
    ),
    "mark abandoned": (
        "approvals",
        lambda transaction: execution.mark_abandoned(transaction, message="", limit=10),
    ),
    "expire": ("approvals", lambda transaction: lifecycle.expire(transaction, limit=10)),
    "remind": (
        "approvals",
        lambda transaction: notification.claim_reminders(transaction.connection, after=MINUTE, limit=10),
    ),
    "look": (
        "recoveries",
        lambda transaction: recovery.claim(transaction.connection, lease=MINUTE, limit=10),
    ),
}


# So few that reading all of them is the cheapest way, and PostgreSQL knows it.
_FEW = """
    INSERT INTO approvals (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, hook,
        parse_error, action_hash, risk, rationale, required_approvals, auto_execute, state, proposed_by,
        incident_verified, expire_time, content_hash)
    SELECT 'APR-' || number, 'INC-1', 'x', 'NO_ACTION', '', '', '', '', '', '', 'LOW', '', 1, false, state, '', false,
        now() - interval '1 day', ''
    FROM generate_series(1, 20) AS number, (VALUES ('PENDING')) AS kind (state)
"""


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    rows = await asyncpg.connect(database)
    await rows.execute(_FEW)
    await rows.execute("ANALYZE")
    await rows.close()
    engine = create_engine(database, application_name="tests", pool_size=2)
    yield engine
    await engine.dispose()


@pytest.mark.parametrize("run", OF_GIVEN_APPROVALS.values(), ids=OF_GIVEN_APPROVALS.keys())
async def test_a_statement_on_given_approvals_reads_no_others(engine: AsyncEngine, run: Run) -> None:
    conditions = (await scans(engine, lambda connection: run(Transaction(connection))))["approvals"]
    assert all("approval_id" in condition for condition in conditions), conditions


@pytest.mark.parametrize(("table", "run"), OF_DUE_ONES.values(), ids=OF_DUE_ONES.keys())
async def test_a_statement_on_what_is_due_changes_it_by_its_key(
    engine: AsyncEngine, table: str, run: Run
) -> None:
    conditions = (await scans(engine, lambda connection: run(Transaction(connection))))[table]
    assert any("approval_id" in condition for condition in conditions), conditions
