"""What grows with the stored data has a pool of connections of its own: it never keeps other calls waiting.

A lock on a table makes each read of it as slow as the database allows, however fast the machine is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.approval.conftest import AT_REST
from tests.approval.schemas import approval_database
from tests.callers import Approvals, approvals_at
from tests.eventually import eventually
from tests.rpc_errors import refused
from tests.services import RunningService, healthy_service

Read = Callable[[Approvals], Awaitable[Any]]


async def existing(approvals: Approvals) -> Any:
    """The first response of a Watch that begins with what exists."""
    async with approvals.watch(include_existing=True, heartbeats=True) as watch:
        return await anext(watch)


# Each with a table that it reads, how many of them run at a time, and whether Get reads the table as well.
READS: dict[str, tuple[str, int, Read]] = {
    "List": ("approval_decisions", 3, lambda approvals: approvals.list().page()),
    "ListExecutions": (
        "auto_repair_executions",
        3,
        lambda approvals: approvals.list_executions().page(),
    ),
    "ListDeliveries": ("outbox", 3, lambda approvals: approvals.list_deliveries().page()),
    "Watch": ("approval_decisions", 3, existing),
    "GetFlywheelStats": ("auto_repair_executions", 1, lambda approvals: approvals.stats()),
    "Reconcile": ("outbox", 1, lambda approvals: approvals.reconcile(validate_only=True)),
}
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'approval-reads'
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def patient() -> AsyncIterator[RunningService]:
    """A service whose heavy reads may take long, and with one connection for all other calls but its workers'."""
    variables = {"APPROVAL_DATABASE_READ_TIMEOUT": "25s", "APPROVAL_DATABASE_POOL_SIZE": "3"} | AT_REST
    async with approval_database() as url, healthy_service("approval", url, variables=variables) as running:
        yield running


@pytest.mark.parametrize(("table", "places", "read"), READS.values(), ids=READS.keys())
async def test_however_many_there_are_they_take_no_connection_of_other_calls(
    patient: RunningService, table: str, places: int, read: Read
) -> None:
    holder, rows = await asyncpg.connect(patient.database_url), await asyncpg.connect(patient.database_url)
    async with approvals_at(patient.address) as approvals:
        approval = await approvals.proposed("INC-20260507-99ADF2")
        async with holder.transaction():
            await holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            calls = [asyncio.ensure_future(read(approvals)) for _ in range(20)]
            await eventually(lambda: rows.fetchval(WAITING), lambda count: count == places)
            if table == "auto_repair_executions":
                for _ in range(5):
                    assert await approvals.get(approval.approval_id) == approval
                refusal = await refused(approvals.approve(approval.approval_id, actor="proposer"))
                assert refusal.reason == "OWN_PROPOSAL"
            assert await rows.fetchval(WAITING) == places
            assert not any(call.done() for call in calls)
        await asyncio.gather(*calls)
    await holder.close()
    await rows.close()
    assert not patient.events("health_check_failed")
