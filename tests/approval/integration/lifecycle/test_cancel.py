"""Cancel: which states allow it, and that it is idempotent for its actor."""

import asyncio
from typing import Any

import grpc
import pytest

from awoooi.incident.v1 import incident_pb2
from tests.callers import Approvals, Incidents, State
from tests.rpc_errors import refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNKNOWN = "APR-20200101-00000000DEAD"


@pytest.mark.parametrize("state", ["PENDING", "APPROVED"])
async def test_an_approval_that_was_not_executed_can_be_cancelled(
    approvals: Approvals, incidents: Incidents, state: str
) -> None:
    incident_id = await incidents.opened_id()
    made = approvals.proposed if state == "PENDING" else approvals.approved
    approval = await made(incident_id)
    cancelled = await approvals.cancel(approval.approval_id, reason="changed my mind")
    assert cancelled.state == State.STATE_CANCELLED
    assert cancelled.outcome_message == "changed my mind"
    assert cancelled.HasField("decide_time")
    assert cancelled.etag != approval.etag
    # Again by the same caller: the record; by another: refused.
    assert await approvals.cancel(approval.approval_id, reason="again") == cancelled
    refusal = await refused(approvals.cancel(approval.approval_id, actor="other"))
    assert refusal.metadata["current_state"] == "CANCELLED"
    refusal = await refused(approvals.execute(approval.approval_id))
    assert refusal.metadata == {"current_state": "CANCELLED", "allowed_states": "APPROVED"}
    assert (await incidents.get(incident_id)).state == incident_pb2.Incident.STATE_OPEN


async def test_what_was_executed_cannot_be_cancelled(approvals: Approvals, incidents: Incidents) -> None:
    approval = await approvals.executed(await incidents.opened_id())
    refusal = await refused(approvals.cancel(approval.approval_id))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.metadata["current_state"] == "SUCCEEDED"


async def test_cancelling_checks_id_and_etag(approvals: Approvals, incidents: Incidents) -> None:
    refusal = await refused(approvals.cancel(UNKNOWN))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "APPROVAL_NOT_FOUND")
    proposed = await approvals.proposed(await incidents.opened_id())
    await approvals.approve(proposed.approval_id)
    refusal = await refused(approvals.cancel(proposed.approval_id, etag=proposed.etag))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "APPROVAL_CHANGED")


async def test_of_a_concurrent_cancel_and_execute_one_wins(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    for _ in range(40):
        incident_id = await incidents.opened_id()
        approval_id = (await approvals.approved(incident_id)).approval_id
        calls: list[Any] = [approvals.cancel(approval_id), replica.execute(approval_id)]
        cancelled, executed = await asyncio.gather(*calls, return_exceptions=True)
        won = [not isinstance(outcome, BaseException) for outcome in (cancelled, executed)]
        assert sorted(won) == [False, True]
        state = (await approvals.get(approval_id)).state
        assert state == (State.STATE_CANCELLED if won[0] else State.STATE_SUCCEEDED)
        assert len((await approvals.list_deliveries(approval_id=approval_id).page()).deliveries) == won[1]
