"""Between the messages of executions and their model."""

from approval.execution.log_use_cases import ExecutionPage
from approval.execution.model import ExecuteCommand, Executed, ExecutionFilter, LoggedExecution
from approval.execution.plan import ExecutionPlan
from approval.lifecycle.mapping import approval_to_proto, operation_to_proto
from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from servicekit.rpc.cursors import write_id_cursor
from servicekit.rpc.mapping import optional_time
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.serialized import with_items
from servicekit.rpc.timestamps import to_timestamp


def execute_command(request: pb.ExecuteRequest) -> ExecuteCommand:
    """Read an Execute that runs."""
    return ExecuteCommand(
        request.approval_id, request.etag, resume_indeterminate=request.resume_indeterminate
    )


def execute_response(executed: Executed) -> pb.ExecuteResponse:
    """Return the response of an Execute that ran."""
    return pb.ExecuteResponse(
        approval=approval_to_proto(executed.approval), already_executed=executed.already_executed
    )


def plan_response(plan: ExecutionPlan) -> pb.ExecuteResponse:
    """Return the response of an Execute that only validates."""
    operation = plan.approval.operation
    return pb.ExecuteResponse(
        approval=approval_to_proto(plan.approval),
        plan=approval_pb2.ExecutionPlan(
            operation=None if operation is None else operation_to_proto(operation),
            checks=[
                approval_pb2.ExecutionPlan.Check(name=check.name, passed=check.passed, message=check.message)
                for check in plan.checks
            ],
        ),
    )


def execution_filter(request: pb.ListExecutionsRequest) -> ExecutionFilter:
    """Read the criteria of a ListExecutions."""
    return ExecutionFilter(
        approval_id=request.approval_id,
        incident_id=request.incident_id,
        succeeded=request.succeeded if request.HasField("succeeded") else None,
        start_time_start=optional_time(request, "start_time_start"),
        start_time_end=optional_time(request, "start_time_end"),
    )


async def list_response(
    request: pb.ListExecutionsRequest, page: ExecutionPage, tokens: PageTokens
) -> pb.ListExecutionsResponse:
    """Return the response of a ListExecutions."""
    return await with_items(
        pb.ListExecutionsResponse(next_page_token=write_id_cursor(request, page.next_before, tokens)),
        "executions",
        page.executions,
        _execution_to_proto,
    )


def _execution_to_proto(execution: LoggedExecution) -> approval_pb2.Execution:
    return approval_pb2.Execution(
        execution_id=str(execution.execution_id),
        approval_id=execution.approval_id,
        incident_id=execution.incident_id,
        operation=operation_to_proto(execution.operation),
        succeeded=execution.succeeded,
        output=execution.output,
        error=execution.error,
        start_time=to_timestamp(execution.start_time),
        finish_time=to_timestamp(execution.finish_time),
        executor=execution.executor,
    )
