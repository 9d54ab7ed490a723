"""The statements of Watch: the changes of incidents, and the incidents. Nothing here commits."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import DateTime

from incident.lifecycle import listing
from incident.lifecycle.model import IncidentFilter, Order
from incident.lifecycle.repository import COLUMNS, get, qualified, to_incident
from incident.lifecycle.timeline import EVENT_COLUMNS, to_event
from incident.model import EventType, Incident
from incident.watch.changes import Change, WatchFilter
from incident.watch.model import STATE_AFTER, states_around
from servicekit.watch.change_table import BATCH_ARRAYS, ChangeTable, batch_parameters
from servicekit.watch.model import Position, Witness

_EVENTS = ChangeTable("incident_events", key="event_id", record_id="incident_id", time="event_time")

_STATE_CHANGES = ", ".join(f"'{event_type}'" for event_type in STATE_AFTER)

# The incident is read by this statement, after the snapshot: it is never older than its event.
_CHANGES = (
    text(f"""
    SELECT {qualified(EVENT_COLUMNS, "event")}, latest.types, {qualified(COLUMNS, "incidents")}
    FROM (
        {_EVENTS.batch(EVENT_COLUMNS)}
    ) AS event
    JOIN incidents ON incidents.incident_id = event.incident_id
    CROSS JOIN LATERAL (
        SELECT array_agg(type ORDER BY sequence DESC) AS types FROM (
            SELECT type, sequence FROM incident_events
            WHERE incident_id = event.incident_id AND sequence <= event.sequence AND type IN ({_STATE_CHANGES})
            ORDER BY sequence DESC LIMIT 2
        ) AS two
    ) AS latest
    ORDER BY event.sequence
    """)
    .bindparams(*BATCH_ARRAYS)
    .columns(attributes=JSONB, labels=JSONB)
)
_EVENT_WIDTH = len(EVENT_COLUMNS.split(","))


def _to_change(row: Sequence[Any], position: Position) -> Change:
    event = to_event(row[:_EVENT_WIDTH])
    latest = [EventType(each) for each in row[_EVENT_WIDTH] or ()]
    before, after = states_around(event.type, latest)
    return Change(
        event=event,
        incident=to_incident(row[_EVENT_WIDTH + 1 :]),
        state_before=before,
        state_after=after,
        position=position.after(event.sequence),
    )


# An incident that retention has removed took its events with it.
_HAS_EVENT = text("""
    SELECT EXISTS (
        SELECT FROM incident_events
        WHERE event_id = :event_id AND incident_id = :incident_id AND event_time = :event_time)
    OR EXISTS (SELECT FROM removed_incidents WHERE incident_id = :incident_id)
""").bindparams(bindparam("event_time", type_=DateTime(timezone=True)))


class IncidentChanges:
    """The changes of incidents, as Watch reads them."""

    table = _EVENTS

    async def read_changes(
        self, connection: AsyncConnection, position: Position, *, limit: int
    ) -> Sequence[Change]:
        """Return the next changes of the batch that `position` is in, at most `limit`; fewer when the batch ends with them."""
        rows = await connection.execute(_CHANGES, batch_parameters(position, limit))
        return [_to_change(row, position) for row in rows]

    async def has_witness(self, connection: AsyncConnection, witness: Witness) -> bool:
        """Tell whether an event is there that a watcher has seen, or would be without retention."""
        parameters = {
            "event_id": witness.key,
            "incident_id": witness.record_id,
            "event_time": witness.time,
        }
        return bool((await connection.execute(_HAS_EVENT, parameters)).scalar_one())

    async def list_existing(
        self,
        connection: AsyncConnection,
        criteria: WatchFilter,
        *,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> tuple[Sequence[Incident], tuple[datetime, str] | None]:
        """Return the next incidents that match, oldest first, maybe none, and the position after them; None at the end."""
        if criteria.incident_id:
            incident = await get(connection, criteria.incident_id)
            return [incident] if incident is not None and criteria.matches_incident(incident) else [], None
        wanted = IncidentFilter(
            states=criteria.states,
            severities=criteria.severities,
            fingerprint=criteria.fingerprint,
            labels=criteria.labels,
            order=Order.CREATE_TIME_ASC,
        )
        page = await listing.list_incidents(
            connection, wanted, stuck_after=timedelta(0), after=after, limit=limit
        )
        if len(page) == limit:
            return page, listing.position(wanted, page[-1])
        return page, await listing.examined_to(connection, wanted, stuck_after=timedelta(0), after=after)
