"""The statements of the execution log, `auto_repair_executions`: one row for each operation that was run."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection

from approval.execution.model import ExecutionFilter, LoggedExecution
from approval.model import Operation, OperationKind
from approval.tables import auto_repair_executions


async def list_executions(
    connection: AsyncConnection, criteria: ExecutionFilter, *, before: int | None, limit: int
) -> Sequence[LoggedExecution]:
    """Return at most `limit` rows, newest first, those older than the id `before` when given."""
    table = auto_repair_executions.c
    conditions: list[ColumnElement[bool]] = []
    if before is not None:
        conditions.append(table.execution_id < before)
    if criteria.approval_id:
        conditions.append(table.approval_id == criteria.approval_id)
    if criteria.incident_id:
        conditions.append(table.incident_id == criteria.incident_id)
    if criteria.succeeded is not None:
        conditions.append(table.succeeded.is_(criteria.succeeded))
    if criteria.start_time_start is not None:
        conditions.append(table.start_time >= criteria.start_time_start)
    if criteria.start_time_end is not None:
        conditions.append(table.start_time < criteria.start_time_end)
    statement = (
        select(auto_repair_executions).where(*conditions).order_by(table.execution_id.desc()).limit(limit)
    )
    return [_logged(row) for row in await connection.execute(statement)]


def operation_to_json(operation: Operation) -> dict[str, Any]:
    """Return an operation as it is stored in the log."""
    return {
        "kind": operation.kind,
        "resource_kind": operation.resource_kind,
        "name": operation.name,
        "namespace": operation.namespace,
        "replicas": operation.replicas,
        "hook": operation.hook,
    }


def _logged(row: Any) -> LoggedExecution:
    operation = row.operation
    return LoggedExecution(
        execution_id=row.execution_id,
        approval_id=row.approval_id,
        incident_id=row.incident_id,
        operation=Operation(
            OperationKind(operation["kind"]), **{k: v for k, v in operation.items() if k != "kind"}
        ),
        succeeded=row.succeeded,
        output=row.output,
        error=row.error,
        executor=row.executor,
        start_time=row.start_time,
        finish_time=row.finish_time,
    )
