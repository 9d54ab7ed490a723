"""What an execution would do."""

from awoooi.approval.v1.approval_service_pb2 import ExecuteResponse
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
