"""What an execution would do, and that nothing would execute it."""

from awoooi.approval.v1.approval_pb2 import Approval, Operation
from awoooi.approval.v1.approval_service_pb2 import ExecuteResponse
from flywheel.operator.output.cells import enum_name
from flywheel.operator.output.printer import Printer


def would_run(response: ExecuteResponse) -> bool:
    """Return whether every precondition holds."""
    return all(each.passed for each in response.plan.checks)


def print_plan(printer: Printer, response: ExecuteResponse) -> None:
    """Print the operation and the preconditions. Nothing has run."""
    if printer.is_json:
        printer.result(response, "", "")
        return
    would = "would run" if would_run(response) else "would not run"
    printer.line(f"{response.approval.approval_id} {would}: {response.approval.action}")
    printer.table(
        ["CHECK", "PASSED", "FINDING"],
        ([each.name, "yes" if each.passed else "NO", each.message] for each in response.plan.checks),
    )


def needs_executor(approval: Approval) -> bool:
    """Return whether an executor is all that it waits for, now or as soon as it is approved."""
    if approval.operation.kind in (Operation.KIND_UNSPECIFIED, Operation.KIND_NO_ACTION):
        return False
    if approval.state == Approval.STATE_PENDING:
        return approval.auto_execute
    return approval.state == Approval.STATE_APPROVED


def missing_executor(response: ExecuteResponse) -> str:
    """Return that no executor runs the planned operation; nothing when there is one."""
    if all(each.passed for each in response.plan.checks if each.name == "executor_present"):
        return ""
    kind = enum_name(Operation.Kind, "KIND_", response.approval.operation.kind)
    return f"no executor runs {kind} here: it waits until it expires (APPROVAL_EXECUTORS, docs/executors.md)"
