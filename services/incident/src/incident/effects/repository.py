"""The statements of the side effects: what is read of a resolution, and what is written of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Double, Integer, Text

from incident.model import Effect, Event, EventType, ResolutionKey, ResolutionType, Severity


@dataclass(frozen=True, slots=True)
class ResolvedIncident:
    """What a RESOLVED transition left behind: the incident's constants, and the timeline up to the transition.

    Read from what never changes, so that it is the same however late an effect runs.
    """

    key: ResolutionKey
    title: str
    description: str
    severity: Severity
    source: str
    fingerprint: str
    labels: Mapping[str, str]
    occurrence_count: int
    resolution_type: ResolutionType
    resolved: Event
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Disposition:
    """How one RESOLVED transition ended its incident, and how many seconds after it was opened."""

    key: ResolutionKey
    resolution_type: ResolutionType
    resolution_seconds: float


_RESOLVED = (
    text("""
    SELECT asked.resolution_number, incidents.incident_id, title, description, severity, source, fingerprint, labels,
        occurrence_count
    FROM unnest(:incident_ids, :numbers) AS asked (incident_id, resolution_number)
    JOIN incidents ON incidents.incident_id = asked.incident_id
""")
    .bindparams(bindparam("incident_ids", type_=ARRAY(Text)), bindparam("numbers", type_=ARRAY(Integer)))
    .columns(labels=JSONB)
)

_EVENTS = (
    text("""
    SELECT asked.resolution_number AS asked_number, event.event_id, event.incident_id, event.type, event.actor,
        event.event_time, event.summary, event.attributes, event.resolution_number, event.sequence
    FROM unnest(:incident_ids, :numbers) AS asked (incident_id, resolution_number)
    JOIN incident_events AS resolved
        ON resolved.event_id = 'service:incident/' || asked.incident_id || '/resolved/' || asked.resolution_number
    CROSS JOIN LATERAL (
        SELECT * FROM incident_events
        WHERE incident_id = asked.incident_id AND sequence <= resolved.sequence
        ORDER BY sequence DESC LIMIT :most
    ) AS event
    ORDER BY event.incident_id, event.sequence
""")
    .bindparams(bindparam("incident_ids", type_=ARRAY(Text)), bindparam("numbers", type_=ARRAY(Integer)))
    .columns(attributes=JSONB)
)
# A postmortem of a flapping incident names its latest events, not thousands.
_MOST_EVENTS = 200


async def get_resolutions(
    connection: AsyncConnection, keys: Sequence[ResolutionKey]
) -> Sequence[ResolvedIncident]:
    """Return what is known of these transitions, each with at most its latest 200 events."""
    asked = _asked(keys)
    timelines: dict[ResolutionKey, list[Event]] = {}
    for number, event_id, incident_id, event_type, *rest in await connection.execute(
        _EVENTS, {**asked, "most": _MOST_EVENTS}
    ):
        event = Event(event_id, incident_id, EventType(event_type), *rest)
        timelines.setdefault(ResolutionKey(event.incident_id, number), []).append(event)
    found: list[ResolvedIncident] = []
    for row in await connection.execute(_RESOLVED, asked):
        key = ResolutionKey(row.incident_id, row.resolution_number)
        events = timelines[key]
        found.append(
            ResolvedIncident(
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
                events=events,
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
    connection: AsyncConnection, written: Sequence[tuple[ResolvedIncident, str]]
) -> None:
    """Keep the Markdown written for each transition."""
    await connection.execute(
        _INSERT_POSTMORTEMS,
        {
            **_asked([resolution.key for resolution, _ in written]),
            "types": [resolution.resolution_type for resolution, _ in written],
            "texts": [markdown for _, markdown in written],
        },
    )


_INSERT_DISPOSITIONS = text("""
    INSERT INTO dispositions
        (incident_id, resolution_number, resolution_type, severity, resolve_time, resolution_seconds)
    SELECT asked.incident_id, asked.resolution_number, asked.resolution_type, severity, resolved.event_time, seconds
    FROM unnest(:incident_ids, :numbers, :types, :seconds)
        AS asked (incident_id, resolution_number, resolution_type, seconds)
    JOIN incidents ON incidents.incident_id = asked.incident_id
    JOIN incident_events AS resolved
        ON resolved.event_id = 'service:incident/' || asked.incident_id || '/resolved/' || asked.resolution_number
""").bindparams(
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("numbers", type_=ARRAY(Integer)),
    bindparam("types", type_=ARRAY(Text)),
    bindparam("seconds", type_=ARRAY(Double)),
)


async def insert_dispositions(connection: AsyncConnection, dispositions: Sequence[Disposition]) -> None:
    """Keep how each transition ended its incident."""
    await connection.execute(
        _INSERT_DISPOSITIONS,
        {
            **_asked([disposition.key for disposition in dispositions]),
            "types": [disposition.resolution_type for disposition in dispositions],
            "seconds": [disposition.resolution_seconds for disposition in dispositions],
        },
    )


_INSERT_EFFECT_EVENTS = text("""
    INSERT INTO incident_events (event_id, incident_id, type, actor, summary, attributes, resolution_number)
    SELECT 'service:incident/' || incident_id || '/' || lower(:type) || '/' || lower(:effect) || '/' || resolution_number || :suffix,
        incident_id, :type, 'service:incident', :summary, jsonb_build_object('effect', :effect), resolution_number
    FROM unnest(:incident_ids, :numbers) AS asked (incident_id, resolution_number)
    -- Of an incident that is gone meanwhile there is no timeline left to write on.
    WHERE EXISTS (SELECT FROM incidents WHERE incidents.incident_id = asked.incident_id)
    ON CONFLICT (event_id) DO NOTHING
""").bindparams(
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("numbers", type_=ARRAY(Integer)),
    bindparam("type", type_=Text),
    bindparam("effect", type_=Text),
    bindparam("summary", type_=Text),
    bindparam("suffix", type_=Text),
)


async def insert_done_events(
    connection: AsyncConnection, effect: Effect, keys: Sequence[ResolutionKey]
) -> None:
    """Say on the timelines that an effect took effect."""
    await _insert_events(connection, EventType.EFFECT_DONE, effect, keys, summary="", suffix="")


async def insert_skipped_events(
    connection: AsyncConnection, effect: Effect, keys: Sequence[ResolutionKey], *, reason: str
) -> None:
    """Say on the timelines that an effect was left out on purpose, and why."""
    await _insert_events(connection, EventType.EFFECT_SKIPPED, effect, keys, summary=reason, suffix="")


async def insert_parked_event(
    connection: AsyncConnection, effect: Effect, key: ResolutionKey, *, attempts: int, reason: str
) -> None:
    """Say on the timeline that an effect was parked, after so many attempts and why."""
    # Parked again after it was put back is another event.
    await _insert_events(
        connection, EventType.EFFECT_PARKED, effect, [key], summary=reason, suffix=f"/{attempts}"
    )


async def _insert_events(
    connection: AsyncConnection,
    event_type: EventType,
    effect: Effect,
    keys: Sequence[ResolutionKey],
    *,
    summary: str,
    suffix: str,
) -> None:
    await connection.execute(
        _INSERT_EFFECT_EVENTS,
        {**_asked(keys), "type": event_type, "effect": effect, "summary": summary, "suffix": suffix},
    )


def _asked(keys: Sequence[ResolutionKey]) -> dict[str, object]:
    return {
        "incident_ids": [key.incident_id for key in keys],
        "numbers": [key.resolution_number for key in keys],
    }
