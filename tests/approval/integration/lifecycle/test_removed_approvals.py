"""A service with a retention, and approvals that it has removed."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import grpc
import pytest

from approval.importing.importer import ApprovalImporter
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from tests.approval import schemas
from tests.approval.integration.lifecycle.old_approvals import (
    insert_old,
    left,
    remove_all,
)
from tests.callers import Approvals, Incidents, State, approvals_at
from tests.eventually import eventually
from tests.imports import approval, approval_id, at, imported, pending_approval, write_lines
from tests.rpc_errors import refused
from tests.services import RunningService, healthy_service

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_service_with_a_retention_removes_and_its_counters_and_imports_know_it_still(
    database: str, rows: "Rows", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_lines(
        tmp_path / "lines.jsonl",
        approval(1, incident_resolve_time=at(90)),
        pending_approval(
            2, state="REJECTED", decide_time=at(70), decisions=[{"actor": "bob", "kind": "REJECT"}]
        ),
    )
    assert (await imported(capsys, ApprovalImporter, "approval", database, path)).counts["new"] == 2
    for _ in range(230):
        await insert_old(rows, days_ago=40)
    young = await insert_old(rows, days_ago=1)
    # Nothing listens there: a retention needs no incident service.
    variables = {"APPROVAL_INCIDENT_TARGET": "127.0.0.1:1", "APPROVAL_RECONCILE_EVERY": "24h"}
    async with healthy_service("approval", database, variables=variables) as service:
        # At its start a retention would have removed them.
        assert len(await left(rows)) == 233
        async with approvals_at(service.address) as approvals:
            before = (await approvals.stats()).executions
    async with healthy_service(
        "approval", database, variables=variables | {"APPROVAL_RETENTION": "30d"}
    ) as service:
        await service.logged("approvals_removed", approvals=32)
        assert await left(rows) == {young}
        assert [event["approvals"] for event in service.events("approvals_removed")] == [100, 100, 32]
        async with approvals_at(service.address) as approvals:
            assert (await approvals.stats()).executions == before
            refusal = await refused(approvals.get(approval_id(1)))
            assert refusal.code is grpc.StatusCode.NOT_FOUND
    # What an import brought once stays known.
    counts = (await imported(capsys, ApprovalImporter, "approval", database, path)).counts
    assert (counts["new"], counts["known"]) == (0, 2)
    assert await left(rows) == {young}


async def test_a_request_id_is_free_again_when_its_approval_was_removed(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    url = approval_service.database_url
    incident_id = await incidents.opened_id()
    request_id = secrets.token_hex(8)
    first = await approvals.proposed(incident_id, request_id=request_id)
    await approvals.cancel(first.approval_id, actor="proposer")
    assert (await approvals.proposed(incident_id, request_id=request_id)).approval_id == first.approval_id
    waits = "SELECT FROM outbox WHERE starts_with(dedup_key, $1) AND state = 'PENDING'"
    await eventually(lambda: schemas.rows(url, waits, first.approval_id), lambda waiting: not waiting)
    await schemas.rows(
        url,
        "UPDATE approvals SET update_time = update_time - interval '90 days' WHERE approval_id = $1",
        first.approval_id,
    )
    engine = create_engine(url, application_name="tests", pool_size=1)
    try:
        (batch,) = await remove_all(Transactions(engine, Outbox()))
    finally:
        await engine.dispose()
    assert batch.removed == 1
    again = await approvals.proposed(incident_id, request_id=request_id)
    assert again.approval_id != first.approval_id
    assert again.state == State.STATE_PENDING
