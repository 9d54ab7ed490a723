"""The statements on timelines: list, get and append events. Nothing here commits."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Boolean, DateTime, Integer, Text

from incident.lifecycle.model import NewEvent
from incident.model import PROGRESS_EVENTS, Event, EventType, Incident, State
from servicekit.database.examined import MAX_EXAMINED
from servicekit.database.result_columns import result_columns

_NO_ATTRIBUTES: Mapping[str, str] = {}

EVENT_COLUMNS = (
    "event_id, incident_id, type, actor, event_time, summary, attributes, resolution_number, sequence"
)


def to_event(row: Sequence[Any]) -> Event:
    """Return the event in a row of EVENT_COLUMNS."""
    event_id, incident_id, event_type, *rest = row
    return Event(event_id, incident_id, EventType(event_type), *rest)


# Of a long timeline so many entries are examined for those of some types.
_LIST = (
    text(f"""
    SELECT {EVENT_COLUMNS} FROM (
        SELECT {EVENT_COLUMNS} FROM incident_events WHERE incident_id = :incident_id AND sequence > :after
        ORDER BY sequence LIMIT {MAX_EXAMINED}
    ) AS examined
    WHERE cardinality(:types) = 0 OR type = ANY (:types)
    ORDER BY sequence LIMIT :limit
""")
    .bindparams(bindparam("types", type_=ARRAY(Text)))
    .columns(*result_columns(EVENT_COLUMNS, attributes=JSONB))
)
_LAST_EXAMINED = text(f"""
    SELECT sequence FROM incident_events WHERE incident_id = :incident_id AND sequence > :after
    ORDER BY sequence OFFSET {MAX_EXAMINED - 1} LIMIT 1
""")


async def list_events(
    connection: AsyncConnection,
    incident_id: str,
    *,
    types: Sequence[EventType],
    after: int | None,
    limit: int,
) -> Sequence[Event]:
    """Return an incident's events, oldest first, those after the sequence number `after` when given.

    No type is no criterion. With types, fewer than `limit` do not mean that there are no more: see `examined_to`.
    """
    rows = await connection.execute(
        _LIST, {"incident_id": incident_id, "after": after or 0, "types": list(types), "limit": limit}
    )
    return [to_event(row) for row in rows]


async def examined_to(
    connection: AsyncConnection, incident_id: str, *, types: Sequence[EventType], after: int | None
) -> int | None:
    """Return the sequence number up to which a list after `after` has looked that found fewer than its limit; None: to the end."""
    if not types:
        return None
    parameters = {"incident_id": incident_id, "after": after or 0}
    found: int | None = await connection.scalar(_LAST_EXAMINED, parameters)
    return found


_GET = text(f"SELECT {EVENT_COLUMNS} FROM incident_events WHERE event_id = :event_id").columns(
    *result_columns(EVENT_COLUMNS, attributes=JSONB)
)


async def get_event(connection: AsyncConnection, event_id: str) -> Event | None:
    """Return an event, or None when there is none."""
    row = (await connection.execute(_GET, {"event_id": event_id})).one_or_none()
    return None if row is None else to_event(row)


_INSERT = text("""
    INSERT INTO incident_events (event_id, incident_id, type, actor, summary, attributes, resolution_number)
    VALUES (coalesce(:event_id, gen_random_uuid()::text), :incident_id, :type, :actor, :summary, :attributes,
        :resolution_number)
""").bindparams(bindparam("event_id", type_=Text), bindparam("attributes", type_=JSONB))


async def insert_event(
    connection: AsyncConnection,
    incident: Incident,
    event_type: EventType,
    *,
    actor: str,
    summary: str,
    event_id: str | None = None,
    attributes: Mapping[str, str] = _NO_ATTRIBUTES,
) -> None:
    """Append an event of this service to the timeline of an incident that this transaction has written."""
    await connection.execute(
        _INSERT,
        {
            "incident_id": incident.incident_id,
            "type": event_type,
            "actor": actor,
            "summary": summary,
            "event_id": event_id,
            "attributes": dict(attributes),
            "resolution_number": incident.resolution_number,
        },
    )


# An event cannot have happened later than now: only the clocks of callers may be ahead a little.
_LATEST = "now() + interval '5 minutes'"
_ADD = (
    text(f"""
    INSERT INTO incident_events
        (event_id, incident_id, type, actor, event_time, summary, attributes, resolution_number)
    SELECT :event_id, :incident_id, :type, :actor, coalesce(:event_time, now()), :summary, :attributes,
        :resolution_number
    WHERE :is_of_service OR :event_time IS NULL OR :event_time <= {_LATEST}
    ON CONFLICT (event_id) DO NOTHING
    RETURNING {EVENT_COLUMNS}
""")
    .bindparams(
        bindparam("event_id", type_=Text),
        bindparam("incident_id", type_=Text),
        bindparam("type", type_=Text),
        bindparam("actor", type_=Text),
        bindparam("event_time", type_=DateTime(timezone=True)),
        bindparam("summary", type_=Text),
        bindparam("attributes", type_=JSONB),
        bindparam("resolution_number", type_=Integer),
        bindparam("is_of_service", type_=Boolean),
    )
    .columns(*result_columns(EVENT_COLUMNS, attributes=JSONB))
)
# What happened before the last progress is late news: it renews nothing. A clock that is ahead renews up to now. But the start
# of an operation always gives the incident another etag, also when clocks differ: a Resolve that was decided before must fail.
_PROGRESS = text("""
    UPDATE incidents SET
        last_progress_time = greatest(last_progress_time, least(:event_time, now())), update_time = now(),
        version = least(version, 9223372036854775806) + 1
    WHERE incident_id = :incident_id AND (:is_start OR last_progress_time < least(:event_time, now()))
""").bindparams(bindparam("event_time", type_=DateTime(timezone=True)), bindparam("is_start", type_=Boolean))
_IS_AHEAD = text(f"SELECT :event_time > {_LATEST}").bindparams(
    bindparam("event_time", type_=DateTime(timezone=True))
)


async def add_event(connection: AsyncConnection, incident: Incident, new: NewEvent) -> Event | None:
    """Append a caller's event to the timeline of a locked incident.

    None, and nothing written, when its id is taken or its time is too far ahead (`is_ahead`). An event that is progress of
    an unresolved incident, and happened after the last, updates the incident's time of last progress; the start of an
    operation updates its etag in any case.
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
                "is_of_service": new.is_of_service,
            },
        )
    ).one_or_none()
    if row is None:
        return None
    event = to_event(row)
    if new.type in PROGRESS_EVENTS and incident.state is not State.RESOLVED:
        await connection.execute(
            _PROGRESS,
            {
                "incident_id": incident.incident_id,
                "event_time": event.event_time,
                "is_start": new.type is EventType.EXECUTION_STARTED,
            },
        )
    return event


async def is_ahead(connection: AsyncConnection, new: NewEvent) -> bool:
    """Return whether the event time is too far in the future to be added."""
    if new.is_of_service or new.event_time is None:
        return False
    ahead: bool = (await connection.execute(_IS_AHEAD, {"event_time": new.event_time})).scalar_one()
    return ahead
