"""The statements on timelines that are not part of a transition: list, get and add events."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import DateTime, Text

from incident.model import PROGRESS_EVENTS, Event, EventType, Incident, NewEvent, State

_COLUMNS = "event_id, incident_id, type, actor, event_time, summary, attributes, resolution_number, sequence"


def to_event(row: Sequence[Any]) -> Event:
    """Return the event in a row of the columns above."""
    event_id, incident_id, event_type, *rest = row
    return Event(event_id, incident_id, EventType(event_type), *rest)


_LIST = (
    text(f"""
    SELECT {_COLUMNS} FROM incident_events
    WHERE incident_id = :incident_id AND sequence > :after AND (cardinality(:types) = 0 OR type = ANY (:types))
    ORDER BY sequence LIMIT :limit
""")
    .bindparams(bindparam("types", type_=ARRAY(Text)))
    .columns(attributes=JSONB)
)


async def list_events(
    connection: AsyncConnection, incident_id: str, *, types: Sequence[EventType], after: int, limit: int
) -> Sequence[Event]:
    """Return an incident's events after sequence number `after`, oldest first, of all types when `types` is empty."""
    rows = await connection.execute(
        _LIST, {"incident_id": incident_id, "after": after, "types": list(types), "limit": limit}
    )
    return [to_event(row) for row in rows]


_GET = text(f"SELECT {_COLUMNS} FROM incident_events WHERE event_id = :event_id").columns(attributes=JSONB)


async def get_event(connection: AsyncConnection, event_id: str) -> Event | None:
    """Return an event, or None when there is none."""
    row = (await connection.execute(_GET, {"event_id": event_id})).one_or_none()
    return None if row is None else to_event(row)


_ADD = (
    text(f"""
    INSERT INTO incident_events
        (event_id, incident_id, type, actor, event_time, summary, attributes, resolution_number)
    VALUES
        (:event_id, :incident_id, :type, :actor, coalesce(:event_time, now()), :summary, :attributes,
        :resolution_number)
    ON CONFLICT (event_id) DO NOTHING
    RETURNING {_COLUMNS}
""")
    .bindparams(bindparam("attributes", type_=JSONB), bindparam("event_time", type_=DateTime(timezone=True)))
    .columns(attributes=JSONB)
)
_PROGRESS = text("""
    UPDATE incidents SET last_progress_time = now(), update_time = now(), version = version + 1
    WHERE incident_id = :incident_id
""")


async def add_event(connection: AsyncConnection, incident: Incident, new: NewEvent) -> Event | None:
    """Append an event to the timeline of a locked incident; None, and nothing written, when its id is taken.

    An event that brings an unresolved incident forward says so on the incident.
    """
    row = (
        await connection.execute(
            _ADD,
            {
                "event_id": new.event_id,
                "incident_id": incident.incident_id,
                "type": new.type,
                "actor": new.actor,
                "event_time": new.event_time,
                "summary": new.summary,
                "attributes": dict(new.attributes),
                "resolution_number": incident.resolution_number,
            },
        )
    ).one_or_none()
    if row is None:
        return None
    if new.type in PROGRESS_EVENTS and incident.state is not State.RESOLVED:
        await connection.execute(_PROGRESS, {"incident_id": incident.incident_id})
    return to_event(row)
