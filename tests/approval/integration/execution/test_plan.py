"""Execute with `validate_only`: the plan, and nothing is written."""

import pytest

from tests.approval.integration.execution.unapproved import unapproved
from tests.approval.schemas import contents
from tests.callers import NO_ACTION, RESTART, UNPARSABLE, Approvals, Incidents
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

# An action, its approval's state, and the checks that fail.
PLANS: dict[str, tuple[str, str, list[str]]] = {
    "approved": (NO_ACTION, "approved", []),
    "pending": (NO_ACTION, "pending", ["approved"]),
    "rejected": (NO_ACTION, "rejected", ["approved"]),
    "expired": (NO_ACTION, "expired", ["not_expired"]),
    "unparsable": (UNPARSABLE, "approved", ["action_parsed"]),
    "without_executor": (RESTART, "approved", ["executor_present"]),
    "executed": (NO_ACTION, "executed", ["approved"]),
}


@pytest.mark.parametrize("case", PLANS.values(), ids=PLANS)
async def test_a_plan_has_operation_and_checks_and_writes_nothing(
    approvals: Approvals,
    incidents: Incidents,
    approval_service: RunningService,
    case: tuple[str, str, list[str]],
) -> None:
    action, how, failing = case
    if how == "approved":
        approval = await approvals.approved(await incidents.opened_id(), action)
    elif how == "executed":
        approval = await approvals.executed(await incidents.opened_id(), action)
        approval = await approvals.until_delivered(approval.approval_id)
    else:
        approval = await unapproved(approvals, incidents, approval_service, how)
    before = await contents(approval_service.database_url)
    answer = await approvals.execute(approval.approval_id, validate_only=True)
    assert await contents(approval_service.database_url) == before
    assert answer.approval == approval
    assert not answer.already_executed
    assert answer.plan.HasField("operation") is (action != UNPARSABLE)
    assert answer.plan.operation == approval.operation
    checks = ["approved", "not_expired", "action_parsed", "action_unchanged"]
    # Only an operation needs an executor.
    checks += ["executor_present"] if action == RESTART else []
    assert [check.name for check in answer.plan.checks] == checks
    assert [check.name for check in answer.plan.checks if not check.passed] == failing


async def test_the_response_of_an_execution_has_no_plan(approvals: Approvals, incidents: Incidents) -> None:
    approval = await approvals.approved(await incidents.opened_id())
    assert not (await approvals.execute(approval.approval_id)).HasField("plan")
