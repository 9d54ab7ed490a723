"""The statement of List: criteria, an order, and keyset pagination. Nothing here commits."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, func, literal_column
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.lifecycle.model import IncidentFilter, Order
from incident.lifecycle.repository import COLUMNS, to_incident
from incident.model import Incident, State
from incident.tables import incidents
from servicekit.database.examined import select_last_examined, select_matching
from servicekit.database.keyset import TimeOrder

_ID = incidents.c.incident_id
# An index serves each, and each of what is unresolved.
_ORDERS: Mapping[Order, TimeOrder] = {
    Order.CREATE_TIME_DESC: TimeOrder(incidents.c.create_time, _ID, descending=True),
    Order.CREATE_TIME_ASC: TimeOrder(incidents.c.create_time, _ID, descending=False),
    Order.UPDATE_TIME_DESC: TimeOrder(incidents.c.update_time, _ID, descending=True),
    Order.LAST_PROGRESS_TIME_ASC: TimeOrder(incidents.c.last_progress_time, _ID, descending=False),
}
_SELECTED = [incidents.c[name.strip()] for name in COLUMNS.split(",")]
_BY_CREATE_TIME = (Order.CREATE_TIME_DESC, Order.CREATE_TIME_ASC)
_UNRESOLVED = frozenset(State) - {State.RESOLVED}

# The time of the order and the id of an incident.
ListPosition = tuple[datetime, str]


async def list_incidents(
    connection: AsyncConnection,
    criteria: IncidentFilter,
    *,
    stuck_after: timedelta,
    after: ListPosition | None,
    limit: int,
) -> Sequence[Incident]:
    """Return at most `limit` incidents in the filter's order, those after the position `after` when given.

    Fewer do not mean that there are no more: see `examined_to`.
    """
    statement = select_matching(
        incidents,
        _SELECTED,
        _within(criteria, stuck_after, after),
        partial(_matching, criteria),
        lambda columns: _ORDERS[criteria.order].on(columns).by(),
        limit=limit,
    )
    return [to_incident(row) for row in await connection.execute(statement)]


async def examined_to(
    connection: AsyncConnection,
    criteria: IncidentFilter,
    *,
    stuck_after: timedelta,
    after: ListPosition | None,
) -> ListPosition | None:
    """Return the position up to which a list after `after` has looked that found fewer than its limit; None: to the end."""
    if not _matching(criteria, incidents.c):
        return None
    order = _ORDERS[criteria.order]
    statement = select_last_examined(
        [order.time, order.row_id], _within(criteria, stuck_after, after), order.by()
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else (row[0], row[1])


def position(criteria: IncidentFilter, last: Incident) -> ListPosition:
    """Return the position of an incident in the filter's order."""
    return _ORDERS[criteria.order].position(last)


def _is_of_unresolved(criteria: IncidentFilter) -> bool:
    return criteria.stuck or (bool(criteria.states) and _UNRESOLVED.issuperset(criteria.states))


def _within(
    criteria: IncidentFilter, stuck_after: timedelta, after: ListPosition | None
) -> Sequence[ColumnElement[bool]]:
    """What an index has. Constants are literals, so that the planner sees the predicates of partial indexes."""
    table = incidents.c
    found: list[ColumnElement[bool]] = []
    if after is not None:
        found.append(_ORDERS[criteria.order].behind(after))
    if _is_of_unresolved(criteria):
        found.append(table.state != literal_column(f"'{State.RESOLVED}'"))
        if criteria.fingerprint:
            found += _has_fingerprint(criteria)
    elif criteria.fingerprint and criteria.order in _BY_CREATE_TIME:
        zero: ColumnElement[int] = literal_column("0")
        hashed = func.hashtextextended(table.fingerprint, zero)
        found += [hashed == func.hashtextextended(criteria.fingerprint, zero), *_has_fingerprint(criteria)]
    if criteria.stuck:
        found.append(table.last_progress_time < func.now() - stuck_after)
    if criteria.order in _BY_CREATE_TIME:
        if criteria.create_time_start is not None:
            found.append(table.create_time >= criteria.create_time_start)
        if criteria.create_time_end is not None:
            found.append(table.create_time < criteria.create_time_end)
    return found


def _has_fingerprint(criteria: IncidentFilter) -> Sequence[ColumnElement[bool]]:
    fingerprint = incidents.c.fingerprint
    return [fingerprint == criteria.fingerprint, fingerprint != literal_column("''")]


def _matching(criteria: IncidentFilter, table: Any) -> Sequence[ColumnElement[bool]]:
    """What no index has in this order."""
    found: list[ColumnElement[bool]] = []
    if criteria.states and not _UNRESOLVED.union({State.RESOLVED}).issubset(criteria.states):
        found.append(table.state.in_(criteria.states))
    if criteria.severities:
        found.append(table.severity.in_(criteria.severities))
    if criteria.labels:
        found.append(table.labels.contains(dict(criteria.labels)))
    if criteria.order not in _BY_CREATE_TIME:
        if criteria.fingerprint and not _is_of_unresolved(criteria):
            found.append(table.fingerprint == criteria.fingerprint)
        if criteria.create_time_start is not None:
            found.append(table.create_time >= criteria.create_time_start)
        if criteria.create_time_end is not None:
            found.append(table.create_time < criteria.create_time_end)
    if criteria.resolve_time_start is not None:
        found.append(table.resolve_time >= criteria.resolve_time_start)
    if criteria.resolve_time_end is not None:
        found.append(table.resolve_time < criteria.resolve_time_end)
    return found
