"""The statements of the side effects: snapshots of resolutions, postmortems, timeline entries. Nothing here commits."""

from collections.abc import Sequence

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Integer, Text

from incident.effects.model import Postmortem, ResolutionSnapshot
from incident.lifecycle.repository import qualified
from incident.lifecycle.timeline import EVENT_COLUMNS, to_event
from incident.model import (
    OWN_ACTOR,
    Effect,
    Event,
    EventType,
    ResolutionKey,
    ResolutionType,
    Severity,
    in_order_of_time,
)

_INCIDENTS = (
    text("""
    SELECT requested.resolution_number, incidents.incident_id, title, description, severity, source, fingerprint, labels,
        occurrence_count
    FROM unnest(:incident_ids, :numbers) AS requested (incident_id, resolution_number)
    JOIN incidents ON incidents.incident_id = requested.incident_id
""")
    .bindparams(bindparam("incident_ids", type_=ARRAY(Text)), bindparam("numbers", type_=ARRAY(Integer)))
    .columns(labels=JSONB)
)

_EVENTS = (
    text(f"""
    SELECT requested.resolution_number, {qualified(EVENT_COLUMNS, "event")}
    FROM unnest(:incident_ids, :numbers) AS requested (incident_id, resolution_number)
    JOIN incident_events AS resolved
        ON resolved.event_id = 'service:incident/' || requested.incident_id || '/resolved/' || requested.resolution_number
    CROSS JOIN LATERAL (
        SELECT * FROM incident_events
        WHERE incident_id = requested.incident_id AND sequence <= resolved.sequence
        ORDER BY sequence DESC LIMIT :limit
    ) AS event
    ORDER BY event.incident_id, event.sequence
""")
    .bindparams(bindparam("incident_ids", type_=ARRAY(Text)), bindparam("numbers", type_=ARRAY(Integer)))
    .columns(attributes=JSONB)
)
# A flapping incident has thousands of events; its snapshot holds the latest.
_MAX_EVENTS = 200


async def get_snapshots(
    connection: AsyncConnection, keys: Sequence[ResolutionKey]
) -> Sequence[ResolutionSnapshot]:
    """Return the snapshots of these transitions, each with at most its latest 200 events."""
    requested = _requested(keys)
    timelines: dict[ResolutionKey, list[Event]] = {}
    for number, *columns in await connection.execute(_EVENTS, {**requested, "limit": _MAX_EVENTS}):
        event = to_event(columns)
        timelines.setdefault(ResolutionKey(event.incident_id, number), []).append(event)
    found: list[ResolutionSnapshot] = []
    for row in await connection.execute(_INCIDENTS, requested):
        key = ResolutionKey(row.incident_id, row.resolution_number)
        events = timelines[key]
        found.append(
            ResolutionSnapshot(
                key=key,
                title=row.title,
                description=row.description,
                severity=Severity(row.severity),
                source=row.source,
                fingerprint=row.fingerprint,
                labels=row.labels,
                occurrence_count=row.occurrence_count,
                resolution_type=ResolutionType(events[-1].attributes["resolution_type"]),
                resolved=events[-1],
                events=in_order_of_time(events, end=events[-1].event_time),
            )
        )
    return found


_INSERT_POSTMORTEMS = text("""
    INSERT INTO postmortems (incident_id, resolution_number, resolution_type, markdown)
    SELECT * FROM unnest(:incident_ids, :numbers, :types, :texts)
""").bindparams(
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("numbers", type_=ARRAY(Integer)),
    bindparam("types", type_=ARRAY(Text)),
    bindparam("texts", type_=ARRAY(Text)),
)


async def insert_postmortems(
    connection: AsyncConnection, written: Sequence[tuple[ResolutionSnapshot, str]]
) -> None:
    """Store the Markdown of each transition."""
    await connection.execute(
        _INSERT_POSTMORTEMS,
        {
            **_requested([snapshot.key for snapshot, _ in written]),
            "types": [snapshot.resolution_type for snapshot, _ in written],
            "texts": [markdown for _, markdown in written],
        },
    )


_GET_POSTMORTEM = text("""
    SELECT incident_id, resolution_number, resolution_type, markdown, create_time FROM postmortems
    WHERE incident_id = :incident_id AND resolution_number = :resolution_number
""")


async def get_postmortem(
    connection: AsyncConnection, incident_id: str, resolution_number: int
) -> Postmortem | None:
    """Return the postmortem of a RESOLVED transition, or None."""
    row = (
        await connection.execute(
            _GET_POSTMORTEM, {"incident_id": incident_id, "resolution_number": resolution_number}
        )
    ).one_or_none()
    if row is None:
        return None
    return Postmortem(row[0], row[1], ResolutionType(row[2]), row[3], row[4])


# Under the incidents' locks, so that a timeline's sequence numbers follow the order of commits; in id order. Retention may
# have removed an incident and its timeline meanwhile.
_INSERT_EFFECT_EVENTS = text("""
    WITH locked AS (
        SELECT incident_id FROM incidents WHERE incident_id = ANY (:incident_ids)
        ORDER BY incident_id FOR NO KEY UPDATE
    )
    INSERT INTO incident_events (event_id, incident_id, type, actor, summary, attributes, resolution_number)
    SELECT 'service:incident/' || incident_id || '/' || lower(:type) || '/' || lower(:effect) || '/' || resolution_number || :suffix,
        incident_id, :type, :actor, :summary, jsonb_build_object('effect', :effect), resolution_number
    FROM unnest(:incident_ids, :numbers) AS requested (incident_id, resolution_number) JOIN locked USING (incident_id)
    ON CONFLICT (event_id) DO NOTHING
""").bindparams(
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("numbers", type_=ARRAY(Integer)),
    bindparam("type", type_=Text),
    bindparam("actor", type_=Text),
    bindparam("effect", type_=Text),
    bindparam("summary", type_=Text),
    bindparam("suffix", type_=Text),
)


async def insert_done_events(
    connection: AsyncConnection, effect: Effect, keys: Sequence[ResolutionKey]
) -> None:
    """Write on the timelines that an effect is DONE."""
    await _insert_events(connection, EventType.EFFECT_DONE, effect, keys, summary="", suffix="")


async def insert_skipped_events(
    connection: AsyncConnection, effect: Effect, keys: Sequence[ResolutionKey], *, reason: str
) -> None:
    """Write on the timelines that an effect was SKIPPED, and why."""
    await _insert_events(connection, EventType.EFFECT_SKIPPED, effect, keys, summary=reason, suffix="")


async def insert_parked_event(
    connection: AsyncConnection, effect: Effect, key: ResolutionKey, *, attempts: int, reason: str
) -> None:
    """Write on the timeline that an effect was PARKED (dead-lettered), after how many attempts and why."""
    # Parked again after a re-queue is another event.
    await _insert_events(
        connection, EventType.EFFECT_PARKED, effect, [key], summary=reason, suffix=f"/{attempts}"
    )


async def insert_dismissed_event(
    connection: AsyncConnection, effect: Effect, key: ResolutionKey, *, actor: str, reason: str
) -> None:
    """Write on the timeline that an operator gave an effect up, and why."""
    # EFFECT_SKIPPED: earlier versions, which run side by side, know no other type for it.
    await _insert_events(
        connection,
        EventType.EFFECT_SKIPPED,
        effect,
        [key],
        actor=actor,
        summary=f"dismissed: {reason}",
        suffix="",
    )


async def _insert_events(
    connection: AsyncConnection,
    event_type: EventType,
    effect: Effect,
    keys: Sequence[ResolutionKey],
    *,
    actor: str = OWN_ACTOR,
    summary: str,
    suffix: str,
) -> None:
    await connection.execute(
        _INSERT_EFFECT_EVENTS,
        {
            **_requested(keys),
            "type": event_type,
            "actor": actor,
            "effect": effect,
            "summary": summary,
            "suffix": suffix,
        },
    )


def _requested(keys: Sequence[ResolutionKey]) -> dict[str, object]:
    return {
        "incident_ids": [key.incident_id for key in keys],
        "numbers": [key.resolution_number for key in keys],
    }
