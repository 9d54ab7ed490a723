"""The statement behind List: filters, an order, and a keyset in place of an offset."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Column, ColumnElement, and_, func, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.lifecycle.repository import COLUMNS, to_incident
from incident.model import Incident, IncidentFilter, Order, State
from incident.tables import incidents

# Each order's column and whether it descends; an index serves each.
_ORDERS: Mapping[Order, tuple[Column[datetime], bool]] = {
    Order.CREATE_TIME_DESC: (incidents.c.create_time, True),
    Order.CREATE_TIME_ASC: (incidents.c.create_time, False),
    Order.UPDATE_TIME_DESC: (incidents.c.update_time, True),
    Order.LAST_PROGRESS_TIME_ASC: (incidents.c.last_progress_time, False),
}
_SELECTED = [incidents.c[name.strip()] for name in COLUMNS.split(",")]


async def list_incidents(
    connection: AsyncConnection,
    narrow: IncidentFilter,
    *,
    stuck_after: timedelta,
    after: tuple[datetime, str] | None,
    limit: int,
) -> Sequence[Incident]:
    """Return at most `limit` incidents in the filter's order, those behind the position `after` when given.

    A position is the order's time and the id of the last incident seen.
    """
    column, descending = _ORDERS[narrow.order]
    conditions = list(_conditions(narrow, stuck_after))
    if after is not None:
        time, incident_id = after
        further = column < time if descending else column > time
        beside = (
            incidents.c.incident_id < incident_id if descending else incidents.c.incident_id > incident_id
        )
        # The first term alone bounds the index range; the second cuts the ties.
        bound = column <= time if descending else column >= time
        conditions.append(and_(bound, or_(further, beside)))
    order = (
        (column.desc(), incidents.c.incident_id.desc())
        if descending
        else (column.asc(), incidents.c.incident_id.asc())
    )
    statement = select(*_SELECTED).where(*conditions).order_by(*order).limit(limit)
    return [to_incident(row) for row in await connection.execute(statement)]


def position(narrow: IncidentFilter, last: Incident) -> tuple[datetime, str]:
    """Return the position of an incident in the filter's order."""
    column, _ = _ORDERS[narrow.order]
    time: datetime = getattr(last, column.name)
    return time, last.incident_id


def _conditions(narrow: IncidentFilter, stuck_after: timedelta) -> Sequence[ColumnElement[bool]]:
    table = incidents.c
    found: list[ColumnElement[bool]] = []
    if narrow.states:
        found.append(table.state.in_(narrow.states))
    if narrow.severities:
        found.append(table.severity.in_(narrow.severities))
    if narrow.fingerprint:
        found.append(table.fingerprint == narrow.fingerprint)
    if narrow.labels:
        found.append(table.labels.contains(dict(narrow.labels)))
    if narrow.create_time_start is not None:
        found.append(table.create_time >= narrow.create_time_start)
    if narrow.create_time_end is not None:
        found.append(table.create_time < narrow.create_time_end)
    if narrow.resolve_time_start is not None:
        found.append(table.resolve_time >= narrow.resolve_time_start)
    if narrow.resolve_time_end is not None:
        found.append(table.resolve_time < narrow.resolve_time_end)
    if narrow.stuck:
        # As a literal, so that the planner sees the predicate of the index on unresolved incidents.
        found.append(table.state != literal_column(f"'{State.RESOLVED}'"))
        found.append(table.last_progress_time < func.now() - stuck_after)
    return found
