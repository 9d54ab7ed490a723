"""What an execution would do."""

from awoooi.approval.v1.approval_service_pb2 import ExecuteResponse
from flywheel.operator.output.printer import Printer


def print_plan(printer: Printer, response: ExecuteResponse) -> None:
    """Print the operation and the preconditions. Nothing has run."""
    if printer.is_json:
        printer.result(response, "", "")
        return
    printer.line(f"{response.approval.approval_id} would run: {response.approval.action}")
    printer.table(
        ["CHECK", "PASSED", "FINDING"],
        ([each.name, "yes" if each.passed else "NO", each.message] for each in response.plan.checks),
    )
