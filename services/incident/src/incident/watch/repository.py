"""The statements of Watch: snapshots, and the changes between two of them. Nothing here commits."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, DateTime

from incident.lifecycle.repository import COLUMNS, qualified, to_incident
from incident.lifecycle.timeline import EVENT_COLUMNS, to_event
from incident.model import EventType
from incident.watch.model import STATE_AFTER, Change, Position, Snapshot, Witness, states_around

# Notified by a trigger when a transaction with events commits, while notifications are requested.
NOTIFY_CHANNEL = "incident_events"

_CURRENT_SNAPSHOT = text("SELECT CAST(pg_current_snapshot() AS text)")


async def current_snapshot(connection: AsyncConnection) -> Snapshot:
    """Return the snapshot of a statement that begins now."""
    return Snapshot.parse((await connection.execute(_CURRENT_SNAPSHOT)).scalar_one())


_POLL = text("""
    SELECT CAST(pg_current_snapshot() AS text), EXISTS (
        SELECT FROM incident_events WHERE xact_id >= :since OR xact_id = ANY (:in_progress_since))
""").bindparams(bindparam("in_progress_since", type_=ARRAY(BigInteger)))


async def poll(connection: AsyncConnection, since: Snapshot) -> tuple[Snapshot, bool]:
    """Return the snapshot of a statement that begins now, and whether it has events that `since` has not."""
    row = (
        await connection.execute(_POLL, {"since": since.xmax, "in_progress_since": list(since.in_progress)})
    ).one()
    return Snapshot.parse(row[0]), row[1]


_STATE_CHANGES = ", ".join(f"'{event_type}'" for event_type in STATE_AFTER)

# The events of a batch are found by their transactions: those that began between the two snapshots, and those that were
# in progress at the first and have ended. So a poll costs what it finds, independent of the history, and a transaction
# that stays open for hours delays its own events alone.
# The incident is read by this statement, after the snapshot: it is never older than its event.
_CHANGES = (
    text(f"""
    SELECT {qualified(EVENT_COLUMNS, "event")}, latest.types, {qualified(COLUMNS, "incidents")}
    FROM (
        SELECT {EVENT_COLUMNS} FROM incident_events
        WHERE (xact_id >= :since AND xact_id < :until OR xact_id = ANY (:in_progress_since))
            AND xact_id <> ALL (:in_progress_until) AND sequence > :after
        ORDER BY sequence LIMIT :limit
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
    .bindparams(
        bindparam("in_progress_since", type_=ARRAY(BigInteger)),
        bindparam("in_progress_until", type_=ARRAY(BigInteger)),
    )
    .columns(attributes=JSONB, labels=JSONB)
)
_EVENT_WIDTH = len(EVENT_COLUMNS.split(","))


async def read_changes(connection: AsyncConnection, position: Position, *, limit: int) -> Sequence[Change]:
    """Return the next changes of the batch that `position` is in, at most `limit`; fewer when the batch ends with them."""
    rows = await connection.execute(
        _CHANGES,
        {
            "since": position.since.xmax,
            "until": position.until.xmax,
            "in_progress_since": list(position.since.in_progress),
            "in_progress_until": list(position.until.in_progress),
            "after": position.sequence,
            "limit": limit,
        },
    )
    return [_to_change(row, position) for row in rows]


def _to_change(row: Sequence[Any], position: Position) -> Change:
    event = to_event(row[:_EVENT_WIDTH])
    latest = [EventType(each) for each in row[_EVENT_WIDTH] or ()]
    before, after = states_around(event.type, latest)
    return Change(
        event=event,
        incident=to_incident(row[_EVENT_WIDTH + 1 :]),
        state_before=before,
        state_after=after,
        position=Position(position.since, position.until, event.sequence),
    )


# An incident that retention has removed took its events with it.
_HAS_EVENT = text("""
    SELECT EXISTS (
        SELECT FROM incident_events
        WHERE event_id = :event_id AND incident_id = :incident_id AND event_time = :event_time)
    OR EXISTS (SELECT FROM removed_incidents WHERE incident_id = :incident_id)
""").bindparams(bindparam("event_time", type_=DateTime(timezone=True)))


async def has_event(connection: AsyncConnection, witness: Witness) -> bool:
    """Tell whether an event is there that a watcher has seen, or would be without retention."""
    parameters = {
        "event_id": witness.event_id,
        "incident_id": witness.incident_id,
        "event_time": witness.event_time,
    }
    return bool((await connection.execute(_HAS_EVENT, parameters)).scalar_one())


_REQUEST_NOTIFICATIONS = text("SELECT pg_advisory_lock_shared(hashtext('incident_events'))")
_STOP_NOTIFICATIONS = text("SELECT pg_advisory_unlock_shared(hashtext('incident_events'))")


async def request_notifications(connection: AsyncConnection, wanted: bool) -> None:
    """Make transactions that write events from now on notify at their commit, or stop that.

    A request ends with its connection.
    """
    await connection.execute(_REQUEST_NOTIFICATIONS if wanted else _STOP_NOTIFICATIONS)
