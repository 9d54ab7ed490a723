"""The statement behind List: filters, an order, and a keyset in place of an offset."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Column, ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from approval.lifecycle.repository import COLUMNS, with_decisions
from approval.model import Approval, ApprovalFilter, Order
from approval.tables import approvals

# Each order's column and whether it descends; an index serves each.
_ORDERS: Mapping[Order, tuple[Column[datetime], bool]] = {
    Order.CREATE_TIME_DESC: (approvals.c.create_time, True),
    Order.CREATE_TIME_ASC: (approvals.c.create_time, False),
    Order.UPDATE_TIME_DESC: (approvals.c.update_time, True),
}
_SELECTED = [
    *(approvals.c[name.strip()] for name in COLUMNS.split(",")[:-1]),
    (approvals.c.expire_time <= func.now()).label("is_past_expiry"),
]


async def list_approvals(
    connection: AsyncConnection, narrow: ApprovalFilter, *, after: tuple[datetime, str] | None, limit: int
) -> Sequence[Approval]:
    """Return at most `limit` approvals in the filter's order, those behind the position `after` when given.

    A position is the order's time and the id of the last approval seen.
    """
    column, descending = _ORDERS[narrow.order]
    conditions = list(_conditions(narrow))
    if after is not None:
        time, approval_id = after
        further = column < time if descending else column > time
        beside = (
            approvals.c.approval_id < approval_id if descending else approvals.c.approval_id > approval_id
        )
        # The first term alone bounds the index range; the second cuts the ties.
        bound = column <= time if descending else column >= time
        conditions.append(and_(bound, or_(further, beside)))
    order = (
        (column.desc(), approvals.c.approval_id.desc())
        if descending
        else (column.asc(), approvals.c.approval_id.asc())
    )
    statement = select(*_SELECTED).where(*conditions).order_by(*order).limit(limit)
    return await with_decisions(connection, (await connection.execute(statement)).all())


def position(narrow: ApprovalFilter, last: Approval) -> tuple[datetime, str]:
    """Return the position of an approval in the filter's order."""
    column, _ = _ORDERS[narrow.order]
    time: datetime = getattr(last, column.name)
    return time, last.approval_id


def _conditions(narrow: ApprovalFilter) -> Sequence[ColumnElement[bool]]:
    table = approvals.c
    found: list[ColumnElement[bool]] = []
    if narrow.states:
        found.append(table.state.in_(narrow.states))
    if narrow.incident_id:
        found.append(table.incident_id == narrow.incident_id)
    if narrow.risks:
        found.append(table.risk.in_(narrow.risks))
    if narrow.operation_kinds:
        found.append(table.operation_kind.in_(narrow.operation_kinds))
    if narrow.create_time_start is not None:
        found.append(table.create_time >= narrow.create_time_start)
    if narrow.create_time_end is not None:
        found.append(table.create_time < narrow.create_time_end)
    return found
