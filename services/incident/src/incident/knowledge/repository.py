"""The statements on knowledge: merge and index lessons, take a success back at a reopening. Nothing here commits."""

from collections.abc import Sequence

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Boolean, Double, Integer, Text

from incident.knowledge.model import Lesson
from incident.knowledge.text import grams, searchable
from incident.model import ResolutionKey

# One entry for each symptom and resolution; in key order, so that two such statements cannot deadlock. Of several lessons for
# one entry the first gives it its incident and the symptoms of that one, the last that has a note its resolution. That of an
# entry that exists is not set here: even to the same text, it would make the column `search` and its index entries anew.
_LEARN = text("""
    WITH lessons AS (
        SELECT * FROM unnest(:ids, :incident_ids, :numbers, :symptom_keys, :symptoms, :resolutions, :types, :actions,
            :held, :seconds) WITH ORDINALITY AS lessons (knowledge_id, incident_id, resolution_number, symptom_key, symptoms,
            resolution, resolution_type, action, held, seconds, position)
    ), learnt AS (
        INSERT INTO knowledge (knowledge_id, symptom_key, resolution_type, action, incident_id, symptoms, resolution,
            use_count, success_count, resolution_seconds_sum)
        SELECT knowledge_id, min(symptom_key), min(resolution_type), min(action),
            (array_agg(incident_id ORDER BY position))[1], (array_agg(symptoms ORDER BY position))[1],
            coalesce((array_agg(resolution ORDER BY position DESC) FILTER (WHERE resolution <> ''))[1], ''),
            count(*), count(*) FILTER (WHERE held), sum(seconds)
        FROM lessons GROUP BY knowledge_id ORDER BY knowledge_id
        ON CONFLICT (knowledge_id) DO UPDATE SET
            use_count = least(knowledge.use_count::bigint + excluded.use_count, 2147483647),
            success_count = least(knowledge.success_count::bigint + excluded.success_count, 2147483647),
            resolution_seconds_sum = knowledge.resolution_seconds_sum + excluded.resolution_seconds_sum,
            update_time = now()
        RETURNING knowledge_id, symptoms, resolution, indexed_digest <> md5(symptoms || E'\\n' || resolution) AS is_stale
    ), uses AS (
        INSERT INTO knowledge_uses (incident_id, resolution_number, knowledge_id, held)
        SELECT incident_id, resolution_number, knowledge_id, held FROM lessons
    )
    SELECT knowledge_id, symptoms, resolution, is_stale FROM learnt
""").bindparams(
    bindparam("ids", type_=ARRAY(Text)),
    bindparam("incident_ids", type_=ARRAY(Text)),
    bindparam("numbers", type_=ARRAY(Integer)),
    bindparam("symptom_keys", type_=ARRAY(Text)),
    bindparam("symptoms", type_=ARRAY(Text)),
    bindparam("resolutions", type_=ARRAY(Text)),
    bindparam("types", type_=ARRAY(Text)),
    bindparam("actions", type_=ARRAY(Text)),
    bindparam("held", type_=ARRAY(Boolean)),
    bindparam("seconds", type_=ARRAY(Double)),
)


async def learn(connection: AsyncConnection, lessons: Sequence[Lesson]) -> None:
    """Merge lessons into the entries of the same symptom and resolution; those that are new or changed are indexed.

    Their incidents are locked: Reopen, which takes a success back, locks its own too.
    """
    rows = await connection.execute(
        _LEARN,
        {
            "ids": [lesson.knowledge_id for lesson in lessons],
            "incident_ids": [lesson.incident_id for lesson in lessons],
            "numbers": [lesson.resolution_number for lesson in lessons],
            "symptom_keys": [lesson.symptom_key for lesson in lessons],
            "symptoms": [lesson.symptoms for lesson in lessons],
            "resolutions": [lesson.resolution for lesson in lessons],
            "types": [lesson.resolution_type for lesson in lessons],
            "actions": [lesson.action for lesson in lessons],
            "held": [lesson.held for lesson in lessons],
            "seconds": [lesson.seconds for lesson in lessons],
        },
    )
    noted = {lesson.knowledge_id: lesson.resolution for lesson in lessons if lesson.resolution}
    await _index(
        connection,
        [
            (knowledge_id, symptoms, latest)
            for knowledge_id, symptoms, resolution, is_stale in rows
            if (latest := noted.get(knowledge_id, resolution)) != resolution or is_stale
        ],
    )


_INDEX = text("""
    UPDATE knowledge SET
        resolution = indexed.resolution, search_text = indexed.search_text,
        grams = array_to_tsvector(string_to_array(indexed.grams, ' ')),
        indexed_digest = md5(symptoms || E'\\n' || indexed.resolution)
    FROM unnest(:ids, :resolutions, :texts, :grams) AS indexed (knowledge_id, resolution, search_text, grams)
    WHERE knowledge.knowledge_id = ANY (:ids) AND knowledge.knowledge_id = indexed.knowledge_id
""").bindparams(
    bindparam("ids", type_=ARRAY(Text)),
    bindparam("resolutions", type_=ARRAY(Text)),
    bindparam("texts", type_=ARRAY(Text)),
    bindparam("grams", type_=ARRAY(Text)),
)
# A partial index holds them: entries of before there were grams, and those that the version of then has changed since.
_UNINDEXED = text("""
    SELECT knowledge_id, symptoms, resolution FROM knowledge
    WHERE indexed_digest <> md5(symptoms || E'\\n' || resolution)
    ORDER BY knowledge_id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
""")


async def index_batch(connection: AsyncConnection, *, limit: int) -> int:
    """Index at most `limit` entries that are not yet, and return their number."""
    entries = [(row[0], row[1], row[2]) for row in await connection.execute(_UNINDEXED, {"limit": limit})]
    await _index(connection, entries)
    return len(entries)


async def _index(connection: AsyncConnection, entries: Sequence[tuple[str, str, str]]) -> None:
    """Set the resolution of locked entries, each given by its id, symptoms and resolution, and index them."""
    if not entries:
        return
    texts = [searchable(symptoms, resolution) for _, symptoms, resolution in entries]
    await connection.execute(
        _INDEX,
        {
            "ids": [knowledge_id for knowledge_id, _, _ in entries],
            "resolutions": [resolution for _, _, resolution in entries],
            "texts": texts,
            # No gram has a space.
            "grams": [" ".join(grams(each)) for each in texts],
        },
    )


_UNLEARN = text("""
    WITH reopened AS (
        UPDATE knowledge_uses SET held = FALSE
        WHERE incident_id = :incident_id AND resolution_number = :resolution_number AND held
        RETURNING knowledge_id
    )
    UPDATE knowledge SET success_count = success_count - 1, update_time = now()
    FROM reopened WHERE knowledge.knowledge_id = reopened.knowledge_id
""")


async def unlearn(connection: AsyncConnection, key: ResolutionKey) -> None:
    """Take back the success of a resolution, because its incident, which is locked, is being reopened."""
    await connection.execute(
        _UNLEARN, {"incident_id": key.incident_id, "resolution_number": key.resolution_number}
    )
