"""Jobs as an operator sees them: listed, counted, re-queued. The worker's own statements are in `queue`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BindParameter, TextualSelect, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from servicekit.outbox.queue import storable_error


class JobState(StrEnum):
    """Where a job stands. PARKED is the dead letter: it cannot succeed as it is and waits for an operator."""

    PENDING = "PENDING"
    DONE = "DONE"
    SKIPPED = "SKIPPED"
    PARKED = "PARKED"


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job's row. `last_error` is empty when there was none; of a SKIPPED job it is the reason."""

    job_id: int
    topic: str
    dedup_key: str
    payload: Mapping[str, Any]
    state: JobState
    attempts: int
    last_error: str
    create_time: datetime
    # When the job is due, or, while it is leased, when the lease ends.
    next_attempt_time: datetime
    done_time: datetime | None


@dataclass(frozen=True, slots=True)
class OpenJobs:
    """How many jobs of a topic are in an open state (PENDING or PARKED), and the oldest one's age in seconds."""

    topic: str
    state: str
    count: int
    oldest_seconds: float


class JobEndedError(Exception):
    """The job is DONE or SKIPPED: there is nothing to re-queue."""

    def __init__(self, state: JobState) -> None:
        super().__init__(f"the job is {state}")
        self.state = state


class JobNotParkedError(Exception):
    """The job is not PARKED: there is nothing to dismiss."""

    def __init__(self, state: JobState) -> None:
        super().__init__(f"the job is {state}")
        self.state = state


_COLUMNS = "job_id, topic, dedup_key, payload, state, attempts, last_error, create_time, next_attempt_time, done_time"
_NEWEST = 2**63 - 1


def _statement(sql: str, *arrays: str) -> TextualSelect:
    parameters: list[BindParameter[Any]] = [bindparam(name, type_=ARRAY(Text)) for name in arrays]
    return text(sql).bindparams(*parameters).columns(payload=JSONB)


_LIST = _statement(
    f"""
    SELECT {_COLUMNS} FROM outbox
    WHERE topic = ANY (:topics) AND (cardinality(:states) = 0 OR state = ANY (:states)) AND job_id < :before
    ORDER BY job_id DESC LIMIT :limit
    """,  # noqa: S608 - constants of this module
    "topics",
    "states",
)
# By the unique index on (topic, dedup_key), so that a long history costs nothing.
_LIST_BY_KEY = _statement(
    f"""
    SELECT {_COLUMNS} FROM outbox
    WHERE topic = ANY (:topics) AND dedup_key = ANY (:dedup_keys)
        AND (cardinality(:states) = 0 OR state = ANY (:states)) AND job_id < :before
    ORDER BY job_id DESC LIMIT :limit
    """,  # noqa: S608 - constants of this module
    "topics",
    "dedup_keys",
    "states",
)


async def list_jobs(
    connection: AsyncConnection,
    topics: Sequence[str],
    *,
    states: Sequence[str] = (),
    dedup_keys: Sequence[str] | None = None,
    before: int | None = None,
    limit: int,
) -> Sequence[JobRecord]:
    """Return at most `limit` jobs of these topics, newest first.

    `states` and `dedup_keys` filter when they are given; `before` is the job id that a further page continues at.
    """
    parameters = {
        "topics": list(topics),
        "states": list(states),
        "before": _NEWEST if before is None else before,
        "limit": limit,
    }
    if dedup_keys is None:
        rows = await connection.execute(_LIST, parameters)
    else:
        rows = await connection.execute(_LIST_BY_KEY, {**parameters, "dedup_keys": list(dedup_keys)})
    return [_record(row) for row in rows]


_LIST_OPEN = _statement(
    f"""
    SELECT {_COLUMNS} FROM outbox WHERE topic = ANY (:topics) AND state IN ('PENDING', 'PARKED')
    ORDER BY state, create_time, job_id LIMIT :limit
    """,  # noqa: S608 - constants of this module
    "topics",
)


async def list_open(connection: AsyncConnection, topics: Sequence[str], *, limit: int) -> Sequence[JobRecord]:
    """Return at most `limit` jobs of these topics that are PARKED, then PENDING ones, oldest first."""
    rows = await connection.execute(_LIST_OPEN, {"topics": list(topics), "limit": limit})
    return [_record(row) for row in rows]


_GET_BY_ID = _statement(
    f"SELECT {_COLUMNS} FROM outbox WHERE job_id = :job_id AND topic = :topic FOR NO KEY UPDATE"  # noqa: S608 - as above
)
_GET_BY_KEY = _statement(
    f"SELECT {_COLUMNS} FROM outbox WHERE topic = :topic AND dedup_key = :dedup_key FOR NO KEY UPDATE"  # noqa: S608 - as above
)


async def get_by_id_for_update(connection: AsyncConnection, topic: str, job_id: int) -> JobRecord | None:
    """Return a topic's job, locked so that its state cannot change before the transaction ends; None when unknown."""
    row = (await connection.execute(_GET_BY_ID, {"topic": topic, "job_id": job_id})).one_or_none()
    return None if row is None else _record(row)


async def get_by_key_for_update(connection: AsyncConnection, topic: str, dedup_key: str) -> JobRecord | None:
    """Return a topic's job, locked so that its state cannot change before the transaction ends; None when unknown."""
    row = (await connection.execute(_GET_BY_KEY, {"topic": topic, "dedup_key": dedup_key})).one_or_none()
    return None if row is None else _record(row)


_REQUEUE = _statement(f"""
    UPDATE outbox SET state = 'PENDING', crashes = 0, lease_token = NULL, next_attempt_time = now()
    WHERE job_id = :job_id AND state = 'PARKED'
    RETURNING {_COLUMNS}
""")  # noqa: S608 - constants of this module


async def requeue(connection: AsyncConnection, job: JobRecord) -> JobRecord:
    """Re-queue a PARKED (dead-lettered) job, due now; a PENDING one is returned as it is.

    Raises JobEndedError when it is DONE or SKIPPED. Wake the worker after the commit.
    """
    if job.state in (JobState.DONE, JobState.SKIPPED):
        raise JobEndedError(job.state)
    row = (await connection.execute(_REQUEUE, {"job_id": job.job_id})).one_or_none()
    return job if row is None else _record(row)


_REQUEUE_PARKED = text("""
    UPDATE outbox SET state = 'PENDING', crashes = 0, lease_token = NULL, next_attempt_time = now()
    FROM (
        SELECT job_id FROM outbox WHERE topic = ANY (:topics) AND state = 'PARKED'
        ORDER BY job_id LIMIT :limit
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS parked
    WHERE outbox.job_id = parked.job_id
""").bindparams(bindparam("topics", type_=ARRAY(Text)))


async def requeue_parked(connection: AsyncConnection, topics: Sequence[str], *, limit: int) -> int:
    """Re-queue the oldest PARKED (dead-lettered) jobs of these topics, at most `limit`; returns how many."""
    result = await connection.execute(_REQUEUE_PARKED, {"topics": list(topics), "limit": limit})
    return result.rowcount


_DISMISS = _statement(f"""
    UPDATE outbox SET state = 'SKIPPED', last_error = :reason, done_time = now()
    WHERE job_id = :job_id AND state = 'PARKED'
    RETURNING {_COLUMNS}
""")  # noqa: S608 - constants of this module


async def dismiss(connection: AsyncConnection, job: JobRecord, *, actor: str, reason: str) -> JobRecord:
    """Give up on a PARKED (dead-lettered) job for good: it becomes SKIPPED, on record with the actor and the reason.

    A job that is SKIPPED already is returned as it is. Raises JobNotParkedError in the other states.
    """
    if job.state is JobState.SKIPPED:
        return job
    note = storable_error(f"dismissed by {actor}: {reason}")
    row = (await connection.execute(_DISMISS, {"job_id": job.job_id, "reason": note})).one_or_none()
    if row is None:
        raise JobNotParkedError(job.state)
    return _record(row)


_REMOVE_ENDED = text("""
    DELETE FROM outbox WHERE topic = :topic AND dedup_key = ANY (:dedup_keys) AND state NOT IN ('PENDING', 'PARKED')
""").bindparams(bindparam("dedup_keys", type_=ARRAY(Text)))


async def remove_ended(connection: AsyncConnection, topic: str, dedup_keys: Sequence[str]) -> None:
    """Remove a topic's jobs with these keys that are DONE or SKIPPED, so that the same intent can be enqueued again."""
    await connection.execute(_REMOVE_ENDED, {"topic": topic, "dedup_keys": list(dedup_keys)})


_COUNT_OPEN = text("""
    SELECT topic, state, count(*) AS jobs, greatest(extract(epoch FROM now() - min(create_time)), 0)::float8 AS oldest_seconds
    FROM outbox WHERE state = 'PENDING' GROUP BY topic, state
    UNION ALL
    SELECT topic, state, count(*), greatest(extract(epoch FROM now() - min(create_time)), 0)::float8
    FROM outbox WHERE state = 'PARKED' GROUP BY topic, state
""")


async def count_open(connection: AsyncConnection) -> Sequence[OpenJobs]:
    """Count the PENDING and PARKED jobs by topic; a topic without any is not in the result. Done rows are not read."""
    return [OpenJobs(*row) for row in await connection.execute(_COUNT_OPEN)]


def _record(row: Sequence[Any]) -> JobRecord:
    job_id, topic, dedup_key, payload, state, attempts, last_error, *times = row
    return JobRecord(job_id, topic, dedup_key, payload, JobState(state), attempts, last_error or "", *times)
