"""The search over knowledge: one statement whose cost does not grow with the number of entries. Nothing here commits."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Double, Integer, Text

from incident.knowledge.model import KnowledgeEntry, KnowledgeMatch, KnowledgePosition
from incident.knowledge.text import Query
from incident.model import ResolutionType

# So many entries are read from the index for each term and each way of matching it, and so many are ranked.
_MAX_HITS = 1000
_MAX_RANKED = 1000

_OF_TYPE = "(cardinality(:types) = 0 OR resolution_type = ANY (:types))"
# The rank of an entry, from 0 to 3:
# - `hit`, by term: 3/4 for the word, in any inflection, 1/4 for its characters within a word. A word counts less the more
#   entries have it, in steps of four, so that it seldom changes from one page to the next. English stop words are left out.
# - `whole`: entries with all terms, which the limit of common words' hits may have left out: as if each term were hit.
# - 1/2 more for the words of the query in a row, 1/2 for the query to the letter, and 1 when it is the title.
# Every table is read by its indexes and with a limit: first the hits, then the text of the best.
_SEARCH = text(f"""
    WITH term AS (
        SELECT number, plainto_tsquery('english', word) AS word, part::tsquery AS part
        FROM unnest(:words, :parts) WITH ORDINALITY AS term (word, part, number)
        WHERE numnode(plainto_tsquery('english', word)) > 0 OR word !~ '^[a-z]+$'
    ), hit AS MATERIALIZED (
        SELECT number, knowledge_id, success_count, weight FROM term CROSS JOIN LATERAL (
            (SELECT knowledge_id, success_count, 0.75 AS weight FROM knowledge
             WHERE search @@ word AND {_OF_TYPE} LIMIT :max_hits)
            UNION ALL
            (SELECT knowledge_id, success_count, 0.25 AS weight FROM knowledge
             WHERE grams @@ part AND {_OF_TYPE} LIMIT :max_hits)
        ) AS found
    ), importance AS (
        SELECT number, 1.0 / (1 + floor(log(4, greatest(count(*) FILTER (WHERE weight = 0.75),
            count(*) FILTER (WHERE weight = 0.25))))) AS value
        FROM hit GROUP BY number
    ), whole AS MATERIALIZED (
        (SELECT knowledge_id, success_count, 0 AS weight, 0.5 AS bonus FROM knowledge
         WHERE search @@ phraseto_tsquery('english', :phrase) AND {_OF_TYPE} LIMIT :max_hits)
        UNION ALL
        (SELECT knowledge_id, success_count, 0.75, 0 FROM knowledge
         WHERE search @@ plainto_tsquery('english', :phrase) AND {_OF_TYPE} LIMIT :max_hits)
        UNION ALL
        (SELECT knowledge_id, success_count, 0.25, 0 FROM knowledge
         WHERE grams @@ :all_parts ::tsquery AND {_OF_TYPE} LIMIT :max_hits)
    ), scored AS (
        SELECT knowledge_id, success_count, sum(weight * value) / (SELECT sum(value) FROM importance) AS score, 0 AS bonus
        FROM hit JOIN importance USING (number) GROUP BY knowledge_id, success_count
        UNION ALL
        SELECT knowledge_id, success_count, sum(weight), max(bonus)
        FROM whole GROUP BY knowledge_id, success_count
    ), best AS (
        SELECT knowledge_id, success_count, max(score) + max(bonus) AS score
        FROM scored GROUP BY knowledge_id, success_count
        ORDER BY score DESC, success_count DESC, knowledge_id DESC LIMIT :max_ranked
    ), ranked AS (
        SELECT knowledge.*, (score + CASE
            WHEN strpos(search_text, :phrase) = 0 THEN 0
            WHEN split_part(search_text, E'\\n', 1) = :phrase THEN 1.5
            WHEN search_text ~ :phrase_pattern THEN 0.5
            ELSE 0 END)::float8 AS rank
        FROM best JOIN knowledge USING (knowledge_id)
    )
    SELECT knowledge_id, incident_id, symptoms, resolution, resolution_type, action, use_count, success_count,
        create_time, update_time, resolution_seconds_sum, rank
    FROM ranked
    WHERE :rank IS NULL OR (rank, success_count, knowledge_id) < (:rank, :success_count, :knowledge_id)
    ORDER BY rank DESC, success_count DESC, knowledge_id DESC
    LIMIT :limit
""").bindparams(
    bindparam("words", type_=ARRAY(Text)),
    bindparam("parts", type_=ARRAY(Text)),
    bindparam("phrase", type_=Text),
    bindparam("phrase_pattern", type_=Text),
    bindparam("all_parts", type_=Text),
    bindparam("types", type_=ARRAY(Text)),
    bindparam("max_hits", type_=Integer),
    bindparam("max_ranked", type_=Integer),
    bindparam("rank", type_=Double),
    bindparam("success_count", type_=Integer),
    bindparam("knowledge_id", type_=Text),
    bindparam("limit", type_=Integer),
)


async def search(
    connection: AsyncConnection,
    query: Query,
    *,
    types: Sequence[ResolutionType],
    after: KnowledgePosition | None,
    limit: int,
) -> Sequence[KnowledgeMatch]:
    """Return at most `limit` of the 1000 best matches, best first, those after the position `after` when given."""
    if not query.terms:
        return []
    rank, success_count, knowledge_id = after or (None, 0, "")
    rows = await connection.execute(
        _SEARCH,
        {
            "words": [term.word for term in query.terms],
            "parts": [term.part for term in query.terms],
            "phrase": query.phrase,
            "phrase_pattern": query.pattern,
            "all_parts": query.all_parts,
            "types": list(types),
            "max_hits": _MAX_HITS,
            "max_ranked": _MAX_RANKED,
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
