"""The one statement that writes the effects of many resolutions. Nothing here commits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Boolean, DateTime, Double, Integer, Text

from incident.effects.model import ResolutionSnapshot
from incident.effects.repository import effect_events
from incident.model import OWN_ACTOR, Effect, EventType, ResolutionKey


@dataclass(frozen=True, slots=True)
class WrittenEffects:
    """A RESOLVED transition, its effects that take place now, and the postmortem if that is one of them."""

    snapshot: ResolutionSnapshot
    resolution_seconds: float
    effects: Sequence[Effect]
    markdown: str | None


# `locked` locks the incidents in id order, so that two such statements cannot deadlock: a timeline's sequence numbers follow
# the order of commits, and whether a resolution held is decided under the lock that Reopen takes too. What retention has
# removed meanwhile is not there, and nothing is written for it.
_WRITE = text(f"""
    WITH locked AS (
        SELECT incident_id, state, resolution_number FROM incidents WHERE incident_id = ANY (:incident_ids)
        ORDER BY incident_id FOR NO KEY UPDATE
    ), resolution AS (
        SELECT written.*, locked.state = 'RESOLVED' AND locked.resolution_number = written.resolution_number AS held
        FROM unnest(:incident_ids, :numbers, :types, :markdowns, :disposed, :severities, :resolve_times, :seconds)
            AS written (incident_id, resolution_number, resolution_type, markdown, is_disposed, severity, resolve_time,
                resolution_seconds)
        JOIN locked USING (incident_id)
    ), postmortem AS (
        INSERT INTO postmortems (incident_id, resolution_number, resolution_type, markdown)
        SELECT incident_id, resolution_number, resolution_type, markdown FROM resolution WHERE markdown IS NOT NULL
    ), disposition AS (
        INSERT INTO dispositions
            (incident_id, resolution_number, resolution_type, severity, resolve_time, resolution_seconds)
        SELECT incident_id, resolution_number, resolution_type, severity, resolve_time, resolution_seconds
        FROM resolution WHERE is_disposed
    ), event AS (
        {effect_events("unnest(:event_incident_ids, :event_numbers, :event_effects)")}
    )
    SELECT incident_id, resolution_number, held FROM resolution
""").bindparams(
    *(
        bindparam(name, type_=ARRAY(Text))
        for name in (
            "incident_ids",
            "types",
            "markdowns",
            "severities",
            "event_incident_ids",
            "event_effects",
        )
    ),
    bindparam("numbers", type_=ARRAY(Integer)),
    bindparam("event_numbers", type_=ARRAY(Integer)),
    bindparam("disposed", type_=ARRAY(Boolean)),
    bindparam("resolve_times", type_=ARRAY(DateTime(timezone=True))),
    bindparam("seconds", type_=ARRAY(Double)),
    *(bindparam(name, type_=Text) for name in ("type", "actor", "summary", "suffix")),
)


async def write(
    connection: AsyncConnection, resolutions: Sequence[WrittenEffects]
) -> Mapping[ResolutionKey, bool]:
    """Write postmortems, dispositions and EFFECT_DONE on the timelines; the incidents are locked.

    Returns for each resolution whether its incident is still resolved by it. One that retention has removed is not there.
    """
    done = [(each.snapshot.key, effect) for each in resolutions for effect in each.effects]
    rows = await connection.execute(
        _WRITE,
        {
            "incident_ids": [each.snapshot.key.incident_id for each in resolutions],
            "numbers": [each.snapshot.key.resolution_number for each in resolutions],
            "types": [each.snapshot.resolution_type for each in resolutions],
            "markdowns": [each.markdown for each in resolutions],
            "disposed": [Effect.DISPOSITION in each.effects for each in resolutions],
            "severities": [each.snapshot.severity for each in resolutions],
            "resolve_times": [each.snapshot.resolved.event_time for each in resolutions],
            "seconds": [each.resolution_seconds for each in resolutions],
            "event_incident_ids": [key.incident_id for key, _ in done],
            "event_numbers": [key.resolution_number for key, _ in done],
            "event_effects": [effect for _, effect in done],
            "type": EventType.EFFECT_DONE,
            "actor": OWN_ACTOR,
            "summary": "",
            "suffix": "",
        },
    )
    return {ResolutionKey(incident_id, number): held for incident_id, number, held in rows}
