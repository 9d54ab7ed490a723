"""The statements on knowledge: merge lessons, take a success back at a reopening, search. Nothing here commits."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Boolean, Double, Integer, Text

from incident.knowledge.model import KnowledgeEntry, KnowledgeMatch, KnowledgePosition, Lesson, symptom_key
from incident.model import ResolutionKey, ResolutionType

# The incidents' rows are locked, in id order so that two such statements cannot deadlock. Reopen locks its row too: whether
# a resolution held is decided under the lock.
_LESSONS = (
    text("""
    SELECT requested.resolution_number, incidents.incident_id, title, description, labels, fingerprint, resolved.summary,
        state = 'RESOLVED' AND incidents.resolution_number = requested.resolution_number AS held,
        resolved.attributes ->> 'resolution_type' AS resolution_type, resolved.attributes ->> 'action' AS action
    FROM unnest(:incident_ids, :numbers) AS requested (incident_id, resolution_number)
    JOIN incidents ON incidents.incident_id = requested.incident_id
    JOIN incident_events AS resolved
        ON resolved.event_id = 'service:incident/' || requested.incident_id || '/resolved/' || requested.resolution_number
    ORDER BY incidents.incident_id
    FOR NO KEY UPDATE OF incidents
""")
    .bindparams(bindparam("incident_ids", type_=ARRAY(Text)), bindparam("numbers", type_=ARRAY(Integer)))
    .columns(labels=JSONB)
)


async def get_lessons(
    connection: AsyncConnection, seconds: Mapping[ResolutionKey, float]
) -> Sequence[Lesson]:
    """Return the lesson of each RESOLVED transition, given the time to resolve of each in seconds."""
    rows = await connection.execute(
        _LESSONS,
        {
            "incident_ids": [key.incident_id for key in seconds],
            "numbers": [key.resolution_number for key in seconds],
        },
    )
    return [
        Lesson(
            incident_id=row.incident_id,
            resolution_number=row.resolution_number,
            symptom_key=symptom_key(row.title, row.labels, row.fingerprint),
            symptoms="\n".join(filter(None, [row.title, row.description])),
            resolution=row.summary,
            resolution_type=ResolutionType(row.resolution_type),
            action=row.action or "",
            held=row.held,
            seconds=seconds[ResolutionKey(row.incident_id, row.resolution_number)],
        )
        for row in rows
    ]


# One entry for each symptom and resolution; in key order, so that two such statements cannot deadlock.
_LEARN = text("""
    WITH lessons AS (
        SELECT * FROM unnest(:ids, :incident_ids, :numbers, :symptom_keys, :symptoms, :resolutions, :types, :actions,
            :held, :seconds) AS lessons (knowledge_id, incident_id, resolution_number, symptom_key, symptoms,
            resolution, resolution_type, action, held, seconds)
    ), learnt AS (
        INSERT INTO knowledge (knowledge_id, symptom_key, resolution_type, action, incident_id, symptoms, resolution,
            use_count, success_count, resolution_seconds_sum)
        SELECT knowledge_id, min(symptom_key), min(resolution_type), min(action), min(incident_id), min(symptoms),
            max(resolution), count(*), count(*) FILTER (WHERE held), sum(seconds)
        FROM lessons GROUP BY knowledge_id ORDER BY knowledge_id
        ON CONFLICT (knowledge_id) DO UPDATE SET
            use_count = least(knowledge.use_count::bigint + excluded.use_count, 2147483647),
            success_count = least(knowledge.success_count::bigint + excluded.success_count, 2147483647),
            resolution_seconds_sum = knowledge.resolution_seconds_sum + excluded.resolution_seconds_sum,
            resolution = CASE WHEN excluded.resolution <> '' THEN excluded.resolution ELSE knowledge.resolution END,
            update_time = now()
    )
    INSERT INTO knowledge_uses (incident_id, resolution_number, knowledge_id, held)
    SELECT incident_id, resolution_number, knowledge_id, held FROM lessons
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
    """Merge lessons into the entries of the same symptom and resolution."""
    await connection.execute(
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


# One matching word is enough, more rank higher; at equal rank the most successful entry comes first. A word may contain
# an &, as the query of a URL does, but no space.
_SEARCH = text("""
    WITH requested AS (
        SELECT replace(plainto_tsquery('english', :query)::text, ' & ', ' | ')::tsquery AS words
    ), matches AS (
        SELECT knowledge.*, ts_rank_cd(search, words)::float8 AS rank
        FROM knowledge, requested
        WHERE search @@ words AND (cardinality(:types) = 0 OR resolution_type = ANY (:types))
    )
    SELECT knowledge_id, incident_id, symptoms, resolution, resolution_type, action, use_count, success_count,
        create_time, update_time, resolution_seconds_sum, rank
    FROM matches
    WHERE :rank IS NULL OR (rank, success_count, knowledge_id) < (:rank, :success_count, :knowledge_id)
    ORDER BY rank DESC, success_count DESC, knowledge_id DESC
    LIMIT :limit
""").bindparams(
    bindparam("query", type_=Text),
    bindparam("types", type_=ARRAY(Text)),
    bindparam("rank", type_=Double),
    bindparam("success_count", type_=Integer),
    bindparam("knowledge_id", type_=Text),
)


async def search(
    connection: AsyncConnection,
    query: str,
    *,
    types: Sequence[ResolutionType],
    after: KnowledgePosition | None,
    limit: int,
) -> Sequence[KnowledgeMatch]:
    """Return at most `limit` matches that share words with `query`, best first, those after the position `after` when given."""
    rank, success_count, knowledge_id = after or (None, 0, "")
    rows = await connection.execute(
        _SEARCH,
        {
            "query": query,
            "types": list(types),
            "rank": rank,
            "success_count": success_count,
            "knowledge_id": knowledge_id,
            "limit": limit,
        },
    )
    return [
        KnowledgeMatch(
            KnowledgeEntry(
                knowledge_id=row.knowledge_id,
                incident_id=row.incident_id,
                symptoms=row.symptoms,
                resolution=row.resolution,
                resolution_type=ResolutionType(row.resolution_type),
                action=row.action,
                use_count=row.use_count,
                success_count=row.success_count,
                create_time=row.create_time,
                update_time=row.update_time,
                mean_resolution_time=timedelta(seconds=row.resolution_seconds_sum / row.use_count),
            ),
            row.rank,
        )
        for row in rows
    ]
