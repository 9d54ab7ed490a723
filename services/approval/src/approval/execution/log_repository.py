"""The statements of the execution log, `auto_repair_executions`: one row for each operation that was run."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncConnection

from approval.execution.model import ExecutionFilter, LoggedExecution
from approval.model import Operation, OperationKind
from approval.tables import auto_repair_executions
from servicekit.database.examined import select_last_examined, select_matching

_LOG = auto_repair_executions


async def list_executions(
    connection: AsyncConnection, criteria: ExecutionFilter, *, before: int | None, limit: int
) -> Sequence[LoggedExecution]:
    """Return at most `limit` rows, newest first, those older than the id `before` when given.

    Fewer do not mean that there are no more: see `examined_to`.
    """
    statement = select_matching(
        _LOG,
        list(_LOG.c),
        _within(criteria, before),
        partial(_matching, criteria),
        lambda columns: [columns.execution_id.desc()],
        limit=limit,
    )
    return [_logged(row) for row in await connection.execute(statement)]


async def examined_to(
    connection: AsyncConnection, criteria: ExecutionFilter, *, before: int | None
) -> int | None:
    """Return the id down to which a list has looked that found fewer than its limit; None: to the end."""
    if not _matching(criteria, _LOG.c):
        return None
    statement = select_last_examined(
        [_LOG.c.execution_id], _within(criteria, before), [_LOG.c.execution_id.desc()]
    )
    found: int | None = await connection.scalar(statement)
    return found


def _within(criteria: ExecutionFilter, before: int | None) -> Sequence[ColumnElement[bool]]:
    """What an index has."""
    found: list[ColumnElement[bool]] = []
    if before is not None:
        found.append(_LOG.c.execution_id < before)
    if criteria.approval_id:
        found.append(_LOG.c.approval_id == criteria.approval_id)
    if criteria.incident_id:
        found.append(_LOG.c.incident_id == criteria.incident_id)
    return found


def _matching(criteria: ExecutionFilter, table: Any) -> Sequence[ColumnElement[bool]]:
    """What no index has in this order."""
    found: list[ColumnElement[bool]] = []
    if criteria.succeeded is not None:
        found.append(table.succeeded.is_(criteria.succeeded))
    if criteria.start_time_start is not None:
        found.append(table.start_time >= criteria.start_time_start)
    if criteria.start_time_end is not None:
        found.append(table.start_time < criteria.start_time_end)
    return found


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
