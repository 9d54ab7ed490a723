"""When an operation waits for an executor, and what is said when there is none."""

import pytest

from awoooi.approval.v1.approval_pb2 import Approval, ExecutionPlan, Operation
from awoooi.approval.v1.approval_service_pb2 import ExecuteResponse
from flywheel.operator.views.plan import missing_executor, needs_executor


@pytest.mark.parametrize(
    ("state", "kind", "auto_execute", "needs"),
    [
        (Approval.STATE_PENDING, Operation.KIND_RESTART, True, True),
        (Approval.STATE_PENDING, Operation.KIND_RESTART, False, False),
        (Approval.STATE_APPROVED, Operation.KIND_RESTART, False, True),
        (Approval.STATE_APPROVED, Operation.KIND_NO_ACTION, True, False),
        (Approval.STATE_APPROVED, Operation.KIND_UNSPECIFIED, True, False),
        (Approval.STATE_SUCCEEDED, Operation.KIND_RESTART, True, False),
    ],
)
def test_an_operation_that_is_approved_or_runs_once_it_is_needs_an_executor(
    state: Approval.State.ValueType, kind: Operation.Kind.ValueType, auto_execute: bool, needs: bool
) -> None:
    approval = Approval(state=state, operation=Operation(kind=kind), auto_execute=auto_execute)
    assert needs_executor(approval) == needs


@pytest.mark.parametrize("present", [True, False])
def test_only_a_missing_executor_is_shown(present: bool) -> None:
    checks = [
        ExecutionPlan.Check(name="approved", passed=False),
        ExecutionPlan.Check(name="executor_present", passed=present),
    ]
    approval = Approval(operation=Operation(kind=Operation.KIND_RESTART))
    told = missing_executor(ExecuteResponse(approval=approval, plan=ExecutionPlan(checks=checks)))
    assert told.startswith("no executor runs RESTART here") == (not present)
    assert bool(told) == (not present)
