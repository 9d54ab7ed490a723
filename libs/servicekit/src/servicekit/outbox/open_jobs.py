"""Open jobs: how many there are by topic and state, and the oldest of them. A backlog of any length costs the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from servicekit.outbox.jobs import JOB_COLUMNS, JobRecord, JobState, job_statement, to_record

# Jobs of one topic in one state that are counted.
MAX_COUNTED_JOBS = 20_000


@dataclass(frozen=True, slots=True)
class OpenJobs:
    """How many jobs of a topic are in an open state (PENDING or PARKED), and the oldest one's age in seconds."""

    topic: str
    state: str
    count: int
    oldest_seconds: float


# So many open jobs of each state are read, so that a backlog of any length costs the same. The oldest of those.
_LIST_OPEN = job_statement(
    f"""
    WITH open AS (
        (SELECT job_id, state, create_time FROM outbox
         WHERE state = 'PARKED' AND (:every_topic OR topic = ANY (:topics)) LIMIT :max_read)
        UNION ALL
        (SELECT job_id, state, create_time FROM outbox
         WHERE state = 'PENDING' AND (:every_topic OR topic = ANY (:topics))
         ORDER BY topic, next_attempt_time LIMIT :max_read)
    ), oldest AS (
        SELECT job_id FROM open ORDER BY state, create_time, job_id LIMIT :limit
    )
    SELECT {JOB_COLUMNS} FROM outbox WHERE job_id = ANY (ARRAY (SELECT job_id FROM oldest))
    ORDER BY state, create_time, job_id
    """,  # noqa: S608 - constants of this module
    "topics",
)


async def list_open(
    connection: AsyncConnection,
    topics: Sequence[str] | None = None,
    *,
    limit: int,
    max_read: int = MAX_COUNTED_JOBS,
) -> Sequence[JobRecord]:
    """Return at most `limit` jobs of these topics (None: of every topic): PARKED, then PENDING ones, oldest first.

    Of a state with more than `max_read` jobs, these are the oldest of so many.
    """
    parameters = {
        "topics": topics or [],
        "every_topic": topics is None,
        "limit": limit,
        "max_read": max_read,
    }
    return [to_record(row) for row in await connection.execute(_LIST_OPEN, parameters)]


# Each state by its partial index.
_LIST_OPEN_KEYS = text("""
    (SELECT state, dedup_key FROM outbox WHERE state = 'PENDING' ORDER BY topic, next_attempt_time LIMIT :limit)
    UNION ALL
    (SELECT state, dedup_key FROM outbox WHERE state = 'PARKED' ORDER BY topic LIMIT :limit)
""")


async def list_open_keys(connection: AsyncConnection, *, limit: int) -> Mapping[JobState, Sequence[str]]:
    """Return the dedup keys of PENDING and of PARKED jobs of every topic, at most `limit` of each."""
    found: dict[JobState, list[str]] = {JobState.PENDING: [], JobState.PARKED: []}
    for state, dedup_key in await connection.execute(_LIST_OPEN_KEYS, {"limit": limit}):
        found[JobState(state)].append(dedup_key)
    return found


def _present(condition: str) -> str:
    # The topics that have such a job, by one look into the partial index for each of them.
    return f"""(
        WITH RECURSIVE present AS (
            (SELECT topic FROM outbox WHERE {condition} ORDER BY topic LIMIT 1)
            UNION ALL
            SELECT (SELECT outbox.topic FROM outbox WHERE {condition} AND outbox.topic > present.topic
                    ORDER BY outbox.topic LIMIT 1)
            FROM present WHERE present.topic IS NOT NULL
        )
        SELECT topic FROM present WHERE topic IS NOT NULL
    )"""  # noqa: S608 - constants of this module


def _count_statement(state: str, condition: str, order: str) -> str:
    return f"""
        SELECT topic, '{state}', jobs, greatest(extract(epoch FROM now() - oldest), 0)::float8
        FROM {_present(f"state = '{state}'")} AS topics CROSS JOIN LATERAL (
            SELECT count(*) AS jobs, min(create_time) AS oldest FROM (
                SELECT create_time FROM outbox WHERE state = '{state}' AND {condition}
                ORDER BY {order} LIMIT :max_counted
            ) AS found
        ) AS counted
    """  # noqa: S608 - constants of this module


_IS_PENDING, _IS_PARKED, _IS_DISMISSED = "state = 'PENDING'", "state = 'PARKED'", "dismissed_by IS NOT NULL"
_LIST_TOPICS = text(f"{_present(_IS_PENDING)} UNION {_present(_IS_PARKED)} UNION {_present(_IS_DISMISSED)}")


async def list_topics(connection: AsyncConnection) -> Sequence[str]:
    """Return the topics that have a PENDING, PARKED or DISMISSED job. Their jobs are not read."""
    return list((await connection.execute(_LIST_TOPICS)).scalars())


# In the order of an index, so that no more than those are read.
_COUNT_OPEN = text(
    " UNION ALL ".join(
        (
            _count_statement("PENDING", "outbox.topic = topics.topic", "next_attempt_time"),
            # A range, not one topic: otherwise there is nothing to order, and any index of PARKED jobs is as good.
            _count_statement("PARKED", "outbox.topic BETWEEN topics.topic AND topics.topic", "outbox.topic"),
        )
    )
)


async def count_open(
    connection: AsyncConnection, *, max_counted: int = MAX_COUNTED_JOBS
) -> Sequence[OpenJobs]:
    """Count the PENDING and PARKED jobs by topic; a topic without any is not in the result. Done rows are not read.

    Of a topic with more than `max_counted` jobs in one state so many are counted, of PENDING ones those due first: there are
    at least so many, and the oldest is at least so old.
    """
    rows = await connection.execute(_COUNT_OPEN, {"max_counted": max_counted})
    return [OpenJobs(*row) for row in rows]
