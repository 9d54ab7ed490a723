"""Execute is refused unless every precondition holds, and then changes nothing."""

import grpc
import pytest

from tests.approval.integration.execution.unapproved import unapproved
from tests.approval.schemas import rows
from tests.callers import RESTART, Approvals, Incidents, State
from tests.rpc_errors import refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNKNOWN = "APR-20200101-00000000DEAD"
REAL = {
    "restart": RESTART,
    "scale": "SCALE deployment/api --replicas=3 -n prod",
    "delete": "DELETE pod/x -n prod",
    "rollback": "ROLLBACK deployment/api -n prod",
    "http": "HTTP POST hook-name",
}


@pytest.mark.parametrize("action", REAL.values(), ids=REAL)
async def test_an_operation_without_an_executor_is_refused_and_stays_approved(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, action: str
) -> None:
    approval = await approvals.approved(await incidents.opened_id(), action)
    refusal = await refused(approvals.execute(approval.approval_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXECUTOR_MISSING")
    assert await approvals.get(approval.approval_id) == approval
    assert approval.state == State.STATE_APPROVED
    assert not await rows(
        approval_service.database_url,
        "SELECT FROM auto_repair_executions WHERE approval_id = $1",
        approval.approval_id,
    )


async def test_an_unknown_approval_is_not_found(approvals: Approvals) -> None:
    for validate_only in (False, True):
        refusal = await refused(approvals.execute(UNKNOWN, validate_only=validate_only))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "APPROVAL_NOT_FOUND")
        assert refusal.resource == ("awoooi.approval.v1.Approval", UNKNOWN)


NOT_APPROVED = {"pending": "PENDING", "rejected": "REJECTED", "expired": "EXPIRED"}


@pytest.mark.parametrize(("how", "state"), NOT_APPROVED.items(), ids=NOT_APPROVED)
async def test_only_an_approved_approval_is_executed(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, how: str, state: str
) -> None:
    approval = await unapproved(approvals, incidents, approval_service, how)
    refusal = await refused(approvals.execute(approval.approval_id))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "APPROVAL_STATE_NOT_ALLOWED",
    )
    assert refusal.metadata == {"current_state": state, "allowed_states": "APPROVED"}
    assert refusal.preconditions == (f"is {state}, must be one of: APPROVED",)
    assert await approvals.get(approval.approval_id) == approval
    assert not (await approvals.list_deliveries(approval_id=approval.approval_id).page()).deliveries


CHANGES = {
    "action": "UPDATE approvals SET action = 'NO_ACTION: something else' WHERE approval_id = $1",
    "hash": "UPDATE approvals SET action_hash = repeat('0', 64) WHERE approval_id = $1",
    "now_unparsable": "UPDATE approvals SET action = 'observe' WHERE approval_id = $1",
    "now_another_target": "UPDATE approvals SET action = 'DELETE pod/x -n prod' WHERE approval_id = $1",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_an_action_that_was_changed_since_its_approval_is_not_executed(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, change: str
) -> None:
    approval_id = (await approvals.approved(await incidents.opened_id())).approval_id
    await rows(approval_service.database_url, change, approval_id)
    refusal = await refused(approvals.execute(approval_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ACTION_CHANGED")
    assert (await approvals.get(approval_id)).state == State.STATE_APPROVED
    plan = (await approvals.execute(approval_id, validate_only=True)).plan
    assert [check.name for check in plan.checks if not check.passed] == ["action_unchanged"]


async def test_the_stored_operation_is_bound_to_the_approved_action(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval_id = (await approvals.approved(await incidents.opened_id(), RESTART)).approval_id
    # The stored operation is what would be run: changed to a NO_ACTION after the approval, it must not be executed.
    await rows(
        approval_service.database_url,
        "UPDATE approvals SET operation_kind = 'NO_ACTION' WHERE approval_id = $1",
        approval_id,
    )
    refusal = await refused(approvals.execute(approval_id))
    assert refusal.reason == "ACTION_CHANGED"


async def test_a_stale_etag_is_refused_and_the_current_one_accepted(
    approvals: Approvals, incidents: Incidents
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id())
    approved = await approvals.approve(proposed.approval_id)
    refusal = await refused(approvals.execute(proposed.approval_id, etag=proposed.etag))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "APPROVAL_CHANGED")
    answer = await approvals.execute(proposed.approval_id, etag=approved.etag)
    assert answer.approval.state == State.STATE_SUCCEEDED
