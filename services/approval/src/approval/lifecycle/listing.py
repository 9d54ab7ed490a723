"""The statement of List: criteria, an order, and keyset pagination."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from approval.delivery.model import COMPARED_STATES
from approval.lifecycle.rows import COLUMNS, with_decisions
from approval.model import Approval, ApprovalFilter, Order
from approval.tables import approvals
from servicekit.database.keyset import TimeOrder

_ORDERS: Mapping[Order, TimeOrder] = {
    Order.CREATE_TIME_DESC: TimeOrder(approvals.c.create_time, approvals.c.approval_id, descending=True),
    Order.CREATE_TIME_ASC: TimeOrder(approvals.c.create_time, approvals.c.approval_id, descending=False),
    Order.UPDATE_TIME_DESC: TimeOrder(approvals.c.update_time, approvals.c.approval_id, descending=True),
}
_SELECTED = [approvals.c[name.strip()] for name in COLUMNS.split(",")]


async def list_approvals(
    connection: AsyncConnection, criteria: ApprovalFilter, *, after: tuple[datetime, str] | None, limit: int
) -> Sequence[Approval]:
    """Return at most `limit` approvals in the filter's order, those after the position `after` when given."""
    order = _ORDERS[criteria.order]
    conditions = list(_conditions(criteria))
    if after is not None:
        conditions.append(order.behind(after))
    statement = select(*_SELECTED).where(*conditions).order_by(*order.by()).limit(limit)
    return await with_decisions(connection, (await connection.execute(statement)).all())


def position(criteria: ApprovalFilter, last: Approval) -> tuple[datetime, str]:
    """Return the position of an approval in the filter's order."""
    return _ORDERS[criteria.order].position(last)


def _conditions(criteria: ApprovalFilter) -> Sequence[ColumnElement[bool]]:
    table = approvals.c
    found: list[ColumnElement[bool]] = []
    if criteria.states:
        found.append(table.state.in_(criteria.states))
    if criteria.incident_id:
        found.append(table.incident_id == criteria.incident_id)
    if criteria.risks:
        found.append(table.risk.in_(criteria.risks))
    if criteria.operation_kinds:
        found.append(table.operation_kind.in_(criteria.operation_kinds))
    if criteria.create_time_start is not None:
        found.append(table.create_time >= criteria.create_time_start)
    if criteria.create_time_end is not None:
        found.append(table.create_time < criteria.create_time_end)
    if criteria.recoveries:
        found.append(table.recovery.in_(criteria.recoveries))
    if criteria.incident_unknown:
        # As the partial index has it.
        found += [
            table.incident_unknown_time.is_not(None),
            table.incident_unknown_accepted_by == literal_column("''"),
            table.state.in_([literal_column(f"'{state}'") for state in COMPARED_STATES]),
        ]
    return found
