"""The statements of the side effects: snapshots of resolutions, postmortems, timeline entries. Nothing here commits."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import JSON, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Integer, Text

from incident.effects.model import Postmortem, ResolutionSnapshot
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
from servicekit.database.result_columns import result_columns

# The latest entries of each timeline up to the transition, `:limits` of them, as JSON: a column for each field would be read one
# by one, and a timeline has hundreds. Every table is read by its keys (OFFSET 0 forbids other joins): a plan that was made while
# the tables were small must not scan them later.
_SNAPSHOTS = (
    text("""
    SELECT requested.resolution_number, incidents.incident_id, title, description, severity, source, fingerprint, labels,
        occurrence_count, timeline.events
    FROM unnest(:incident_ids, :numbers, :limits) AS requested (incident_id, resolution_number, latest)
    JOIN incidents ON incidents.incident_id = requested.incident_id AND incidents.incident_id = ANY (:incident_ids)
    CROSS JOIN LATERAL (
        SELECT sequence FROM incident_events
        WHERE event_id = 'service:incident/' || requested.incident_id || '/resolved/' || requested.resolution_number
        OFFSET 0
    ) AS resolved
    CROSS JOIN LATERAL (
        SELECT json_agg(
            json_build_array(event_id, type, actor, event_time, summary, attributes, event.resolution_number, sequence)
            ORDER BY sequence) AS events
        FROM (
            SELECT * FROM incident_events
            WHERE incident_id = requested.incident_id AND sequence <= resolved.sequence
            ORDER BY sequence DESC LIMIT requested.latest
        ) AS event
    ) AS timeline
""")
    .bindparams(
        bindparam("incident_ids", type_=ARRAY(Text)),
        bindparam("numbers", type_=ARRAY(Integer)),
        bindparam("limits", type_=ARRAY(Integer)),
    )
    .columns(
        *result_columns(
            "resolution_number, incident_id, title, description, severity, source, fingerprint, labels, occurrence_count, events",
            labels=JSONB,
            events=JSON,
        )
    )
)
# A flapping incident has thousands of events; its snapshot holds the latest.
_MAX_EVENTS = 200


async def get_snapshots(
    connection: AsyncConnection,
    keys: Sequence[ResolutionKey],
    *,
    with_timeline: Collection[ResolutionKey] | None = None,
) -> Mapping[ResolutionKey, ResolutionSnapshot]:
    """Return the snapshots of these transitions, each with at most its latest 200 events.

    With `with_timeline` those of others have the RESOLVED event alone. A transition that is unknown is not there.
    """
    whole = set(keys if with_timeline is None else with_timeline)
    rows = await connection.execute(
        _SNAPSHOTS,
        {**_requested(keys), "limits": [_MAX_EVENTS if key in whole else 1 for key in keys]},
    )
    found: dict[ResolutionKey, ResolutionSnapshot] = {}
    for (
        number,
        incident_id,
        title,
        description,
        severity,
        source,
        fingerprint,
        labels,
        reports,
        entries,
    ) in rows:
        events = [_event(incident_id, entry) for entry in entries]
        resolved = events[-1]
        key = ResolutionKey(incident_id, number)
        found[key] = ResolutionSnapshot(
            key=key,
            title=title,
            description=description,
            severity=Severity(severity),
            source=source,
            fingerprint=fingerprint,
            labels=labels,
            occurrence_count=reports,
            resolution_type=ResolutionType(resolved.attributes["resolution_type"]),
            resolved=resolved,
            events=in_order_of_time(events, end=resolved.event_time),
        )
    return found


def _event(incident_id: str, entry: Sequence[Any]) -> Event:
    event_id, event_type, actor, event_time, *rest = entry
    return Event(
        event_id, incident_id, EventType(event_type), actor, datetime.fromisoformat(event_time), *rest
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


def effect_events(ended: str) -> str:
    """Return the INSERT of an entry for each effect of `ended`, in its order, for a WITH clause.

    `ended` is a function in FROM whose columns are incident id, resolution number and effect. Binds :type, :actor, :summary and
    :suffix of the ids. The statement has the incidents in `locked`: under their locks a timeline's sequence numbers follow
    the order of commits. What retention has removed meanwhile is not there.
    """
    return f"""
        INSERT INTO incident_events (event_id, incident_id, type, actor, summary, attributes, resolution_number)
        SELECT 'service:incident/' || incident_id || '/' || lower(:type) || '/' || lower(effect) || '/'
                || ended.resolution_number || :suffix,
            incident_id, :type, :actor, :summary, jsonb_build_object('effect', effect), ended.resolution_number
        FROM {ended} WITH ORDINALITY AS ended (incident_id, resolution_number, effect, position)
        JOIN locked USING (incident_id) ORDER BY incident_id, position
        ON CONFLICT (event_id) DO NOTHING
    """


_INSERT_EFFECT_EVENTS = text(f"""
    WITH locked AS (
        SELECT incident_id FROM incidents WHERE incident_id = ANY (:incident_ids)
        ORDER BY incident_id FOR NO KEY UPDATE
    )
    {effect_events("unnest(:incident_ids, :numbers, :effects)")}
""").bindparams(
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("numbers", type_=ARRAY(Integer)),
    bindparam("effects", type_=ARRAY(Text)),
    *(bindparam(name, type_=Text) for name in ("type", "actor", "summary", "suffix")),
)

# An effect of a resolution, as it ended.
Ended: TypeAlias = tuple[Effect, ResolutionKey]


async def insert_done_events(connection: AsyncConnection, ended: Sequence[Ended]) -> None:
    """Write on the timelines that effects are DONE."""
    await _insert_events(connection, EventType.EFFECT_DONE, ended, summary="", suffix="")


async def insert_skipped_events(connection: AsyncConnection, ended: Sequence[Ended], *, reason: str) -> None:
    """Write on the timelines that effects were SKIPPED, and why."""
    await _insert_events(connection, EventType.EFFECT_SKIPPED, ended, summary=reason, suffix="")


async def insert_parked_event(
    connection: AsyncConnection, effect: Effect, key: ResolutionKey, *, attempts: int, reason: str
) -> None:
    """Write on the timeline that an effect was PARKED (dead-lettered), after how many attempts and why."""
    # Parked again after a re-queue is another event.
    await _insert_events(
        connection, EventType.EFFECT_PARKED, [(effect, key)], summary=reason, suffix=f"/{attempts}"
    )


async def insert_dismissed_event(
    connection: AsyncConnection, effect: Effect, key: ResolutionKey, *, actor: str, reason: str
) -> None:
    """Write on the timeline that an operator gave an effect up, and why."""
    # EFFECT_SKIPPED: earlier versions, which run side by side, know no other type for it.
    await _insert_events(
        connection,
        EventType.EFFECT_SKIPPED,
        [(effect, key)],
        actor=actor,
        summary=f"dismissed: {reason}",
        suffix="",
    )


async def _insert_events(
    connection: AsyncConnection,
    event_type: EventType,
    ended: Sequence[Ended],
    *,
    actor: str = OWN_ACTOR,
    summary: str,
    suffix: str,
) -> None:
    await connection.execute(
        _INSERT_EFFECT_EVENTS,
        {
            **_requested([key for _, key in ended]),
            "effects": [effect for effect, _ in ended],
            "type": event_type,
            "actor": actor,
            "summary": summary,
            "suffix": suffix,
        },
    )


def _requested(keys: Sequence[ResolutionKey]) -> dict[str, object]:
    return {
        "incident_ids": [key.incident_id for key in keys],
        "numbers": [key.resolution_number for key in keys],
    }
