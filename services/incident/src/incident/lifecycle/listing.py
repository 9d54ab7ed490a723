"""The statement of List: criteria, an order, and keyset pagination. Nothing here commits."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.lifecycle.model import IncidentFilter, Order
from incident.lifecycle.repository import COLUMNS, to_incident
from incident.model import Incident, State
from incident.tables import incidents
from servicekit.database.keyset import TimeOrder

_ID = incidents.c.incident_id
# An index serves each.
_ORDERS: Mapping[Order, TimeOrder] = {
    Order.CREATE_TIME_DESC: TimeOrder(incidents.c.create_time, _ID, descending=True),
    Order.CREATE_TIME_ASC: TimeOrder(incidents.c.create_time, _ID, descending=False),
    Order.UPDATE_TIME_DESC: TimeOrder(incidents.c.update_time, _ID, descending=True),
    Order.LAST_PROGRESS_TIME_ASC: TimeOrder(incidents.c.last_progress_time, _ID, descending=False),
}
_SELECTED = [incidents.c[name.strip()] for name in COLUMNS.split(",")]


async def list_incidents(
    connection: AsyncConnection,
    criteria: IncidentFilter,
    *,
    stuck_after: timedelta,
    after: tuple[datetime, str] | None,
    limit: int,
) -> Sequence[Incident]:
    """Return at most `limit` incidents in the filter's order, those after the position `after` when given.

    A position is the order's time and the id of an incident.
    """
    order = _ORDERS[criteria.order]
    conditions = list(_conditions(criteria, stuck_after))
    if after is not None:
        conditions.append(order.behind(after))
    statement = select(*_SELECTED).where(*conditions).order_by(*order.by()).limit(limit)
    return [to_incident(row) for row in await connection.execute(statement)]


def position(criteria: IncidentFilter, last: Incident) -> tuple[datetime, str]:
    """Return the position of an incident in the filter's order."""
    return _ORDERS[criteria.order].position(last)


def _conditions(criteria: IncidentFilter, stuck_after: timedelta) -> Sequence[ColumnElement[bool]]:
    table = incidents.c
    found: list[ColumnElement[bool]] = []
    if criteria.states:
        found.append(table.state.in_(criteria.states))
    if criteria.severities:
        found.append(table.severity.in_(criteria.severities))
    if criteria.fingerprint:
        found.append(table.fingerprint == criteria.fingerprint)
    if criteria.labels:
        found.append(table.labels.contains(dict(criteria.labels)))
    if criteria.create_time_start is not None:
        found.append(table.create_time >= criteria.create_time_start)
    if criteria.create_time_end is not None:
        found.append(table.create_time < criteria.create_time_end)
    if criteria.resolve_time_start is not None:
        found.append(table.resolve_time >= criteria.resolve_time_start)
    if criteria.resolve_time_end is not None:
        found.append(table.resolve_time < criteria.resolve_time_end)
    if criteria.stuck:
        # As a literal, so that the planner sees the predicate of the index on unresolved incidents.
        found.append(table.state != literal_column(f"'{State.RESOLVED}'"))
        found.append(table.last_progress_time < func.now() - stuck_after)
    return found
