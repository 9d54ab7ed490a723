"""The statements of List: criteria, an order, and keyset pagination."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, literal_column
from sqlalchemy.ext.asyncio import AsyncConnection

from approval.delivery.model import COMPARED_STATES
from approval.lifecycle.rows import COLUMNS, with_decisions
from approval.model import Approval, ApprovalFilter, Order, State
from approval.tables import approvals
from servicekit.database.examined import select_last_examined, select_matching
from servicekit.database.keyset import TimeOrder

_ORDERS: Mapping[Order, TimeOrder] = {
    Order.CREATE_TIME_DESC: TimeOrder(approvals.c.create_time, approvals.c.approval_id, descending=True),
    Order.CREATE_TIME_ASC: TimeOrder(approvals.c.create_time, approvals.c.approval_id, descending=False),
    Order.UPDATE_TIME_DESC: TimeOrder(approvals.c.update_time, approvals.c.approval_id, descending=True),
}
_SELECTED = [approvals.c[name.strip()] for name in COLUMNS.split(",")]
_BY_CREATE_TIME = (Order.CREATE_TIME_DESC, Order.CREATE_TIME_ASC)
# As the partial indexes have them.
_OPEN = (State.PENDING, State.APPROVED, State.EXECUTING, State.INDETERMINATE)

# The time of the order and the id of an approval.
ListPosition = tuple[datetime, str]


async def list_approvals(
    connection: AsyncConnection, criteria: ApprovalFilter, *, after: ListPosition | None, limit: int
) -> Sequence[Approval]:
    """Return at most `limit` approvals in the filter's order, those after the position `after` when given.

    Fewer do not mean that there are no more: see `examined_to`.
    """
    statement = select_matching(
        approvals,
        _SELECTED,
        _within(criteria, after),
        partial(_matching, criteria),
        lambda columns: _ORDERS[criteria.order].on(columns).by(),
        limit=limit,
    )
    return await with_decisions(connection, (await connection.execute(statement)).all())


async def examined_to(
    connection: AsyncConnection, criteria: ApprovalFilter, *, after: ListPosition | None
) -> ListPosition | None:
    """Return the position up to which a list after `after` has looked that found fewer than its limit; None: to the end."""
    if not _matching(criteria, approvals.c):
        return None
    order = _ORDERS[criteria.order]
    statement = select_last_examined([order.time, order.row_id], _within(criteria, after), order.by())
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else (row[0], row[1])


def position(criteria: ApprovalFilter, last: Approval) -> ListPosition:
    """Return the position of an approval in the filter's order."""
    return _ORDERS[criteria.order].position(last)


def _within(criteria: ApprovalFilter, after: ListPosition | None) -> Sequence[ColumnElement[bool]]:
    """What an index has. Constants are literals, so that the planner sees the predicates of partial indexes."""
    table = approvals.c
    found: list[ColumnElement[bool]] = []
    if after is not None:
        found.append(_ORDERS[criteria.order].behind(after))
    if criteria.incident_id:
        found.append(table.incident_id == criteria.incident_id)
    elif criteria.states and set(criteria.states) <= set(_OPEN):
        found.append(table.state.in_(_literals(_OPEN)))
    if criteria.order in _BY_CREATE_TIME:
        if criteria.create_time_start is not None:
            found.append(table.create_time >= criteria.create_time_start)
        if criteria.create_time_end is not None:
            found.append(table.create_time < criteria.create_time_end)
    if criteria.incident_unknown:
        found += [
            table.incident_unknown_time.is_not(None),
            table.incident_unknown_accepted_by == literal_column("''"),
            table.state.in_(_literals(COMPARED_STATES)),
        ]
    return found


def _matching(criteria: ApprovalFilter, table: Any) -> Sequence[ColumnElement[bool]]:
    """What no index has in this order."""
    found: list[ColumnElement[bool]] = []
    if criteria.states and (criteria.incident_id or set(criteria.states) != set(_OPEN)):
        found.append(table.state.in_(criteria.states))
    if criteria.risks:
        found.append(table.risk.in_(criteria.risks))
    if criteria.operation_kinds:
        found.append(table.operation_kind.in_(criteria.operation_kinds))
    if criteria.order not in _BY_CREATE_TIME:
        if criteria.create_time_start is not None:
            found.append(table.create_time >= criteria.create_time_start)
        if criteria.create_time_end is not None:
            found.append(table.create_time < criteria.create_time_end)
    if criteria.recoveries:
        found.append(table.recovery.in_(criteria.recoveries))
    return found


def _literals(states: Iterable[State]) -> Sequence[ColumnElement[str]]:
    return [literal_column(f"'{state}'") for state in states]
