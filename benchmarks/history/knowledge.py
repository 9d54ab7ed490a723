"""Lessons of the history: identified, merged and indexed as the incident service does it."""

import hashlib

import asyncpg

from benchmarks.history.actions import NO_ACTION, repair
from benchmarks.history.shape import Shape
from incident.knowledge.model import Lesson, symptom_key
from incident.knowledge.text import grams, searchable
from incident.model import ResolutionType

_CREATE = """
CREATE TEMP TABLE lessons (
    problem int, resolution_type text, knowledge_id text, symptom_key text, action text, symptoms text, resolution text,
    search_text text, grams text, PRIMARY KEY (problem, resolution_type))
"""
_WHAT = ("CPU", "Memory", "Disk", "Latency", "Errors")
_RESOLUTION = "back below its threshold"

_INSERT = """
INSERT INTO knowledge (
    knowledge_id, symptom_key, resolution_type, action, incident_id, symptoms, resolution, use_count, success_count,
    resolution_seconds_sum, create_time, update_time, search_text, grams, indexed_digest)
SELECT knowledge_id, symptom_key, resolution_type, action, first_incident, symptoms, resolution, uses, held, seconds,
    first_time, last_time, search_text, array_to_tsvector(string_to_array(grams, ' ')),
    md5(symptoms || E'\\n' || resolution)
FROM lessons JOIN (
    SELECT knowledge_id, count(*) AS uses, count(*) FILTER (WHERE held) AS held, sum(resolution_seconds) AS seconds,
        min(resolve_time) AS first_time, max(resolve_time) AS last_time,
        (array_agg(incident_id ORDER BY resolve_time))[1] AS first_incident
    FROM knowledge_uses JOIN dispositions USING (incident_id, resolution_number) GROUP BY knowledge_id
) AS used USING (knowledge_id)
"""


async def create_lessons(connection: "asyncpg.Connection[asyncpg.Record]", shape: Shape) -> None:
    """Make the temporary table `lessons`: what each kind of resolution of each problem teaches."""
    await connection.execute(_CREATE)
    records = [_record(problem, kind, shape) for problem in range(shape.problems) for kind in _ACTIONS]
    await connection.copy_records_to_table("lessons", records=records)


async def index_knowledge(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Write the entries of `lessons` that have a use."""
    await connection.execute(_INSERT)


_ACTIONS = (ResolutionType.NO_ACTION, ResolutionType.AUTO_REPAIRED, ResolutionType.HUMAN)


def _record(problem: int, kind: ResolutionType, shape: Shape) -> tuple[object, ...]:
    target = problem % shape.targets
    action = {ResolutionType.NO_ACTION: NO_ACTION, ResolutionType.AUTO_REPAIRED: repair(target)}.get(kind, "")
    fingerprint = hashlib.md5(f"problem {problem}".encode(), usedforsecurity=False).hexdigest()
    symptoms = f"{_WHAT[problem % 5]} of app-{target} beyond its threshold for 10 minutes\nRequests are still answered in time."
    lesson = Lesson(
        incident_id="",
        resolution_number=1,
        symptom_key=symptom_key("", {}, fingerprint),
        symptoms=symptoms,
        resolution=_RESOLUTION,
        resolution_type=kind,
        action=action,
        held=True,
        seconds=0,
    )
    text = searchable(symptoms, _RESOLUTION)
    return (
        problem,
        kind,
        lesson.knowledge_id,
        lesson.symptom_key,
        action,
        symptoms,
        _RESOLUTION,
        text,
        " ".join(grams(text)),
    )
