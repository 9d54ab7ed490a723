"""The statements of enqueuing and of the worker: enqueue, claim, mark, release, remove."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, Boolean, Float, Integer, Text, Uuid

from servicekit.database.result_columns import result_columns
from servicekit.outbox.sql import notify_workers

MAX_ERROR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class NewJob:
    """An intent to enqueue: `dedup_key` makes it one intent however often it is enqueued."""

    topic: str
    dedup_key: str
    payload: Mapping[str, Any]
    # The incident that it is about.
    incident_id: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A leased job. Only the holder of `lease_token` can mark it: marks are compare-and-set."""

    job_id: int
    topic: str
    dedup_key: str
    payload: Mapping[str, Any]
    attempts: int
    lease_token: uuid.UUID


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt: what is kept of the error and when to try again; `retry_after` None parks the job.

    `progress` is merged into the job's payload: what the next attempt need not do again.
    """

    job: Job
    error: str
    retry_after: timedelta | None
    progress: Mapping[str, Any] = field(default_factory=dict)


_COLUMNS = "job_id, topic, dedup_key, payload, attempts, lease_token"
_COLUMN_TYPES: Final = {"payload": JSONB, "lease_token": Uuid}

_ENQUEUE = (
    text(f"""
    WITH enqueued AS (
        INSERT INTO outbox (topic, dedup_key, incident_id, payload, attempts, lease_token, next_attempt_time)
        SELECT topic, dedup_key, incident_id, payload, leased::integer, CASE WHEN leased THEN :token END,
            now() + make_interval(secs => CASE WHEN leased THEN :lease_seconds ELSE 0 END)
        FROM unnest(:topics, :dedup_keys, :incident_ids, :payloads, :leased)
            AS new (topic, dedup_key, incident_id, payload, leased)
        ON CONFLICT (topic, dedup_key) DO NOTHING
        RETURNING job_id, topic, dedup_key, payload, attempts, lease_token, lease_token IS NULL AS is_due
    ), notified AS (
        {notify_workers("enqueued")}
    )
    SELECT job_id, topic, dedup_key, payload, attempts, lease_token
    FROM enqueued CROSS JOIN (SELECT count(*) FROM notified) AS sent
""")  # noqa: S608 - a fragment of our own
    .bindparams(
        bindparam("topics", type_=ARRAY(Text)),
        bindparam("dedup_keys", type_=ARRAY(Text)),
        bindparam("incident_ids", type_=ARRAY(Text)),
        bindparam("payloads", type_=ARRAY(JSONB)),
        bindparam("leased", type_=ARRAY(Boolean)),
        bindparam("token", type_=Uuid),
        bindparam("lease_seconds", type_=Float),
    )
    .columns(*result_columns(_COLUMNS, **_COLUMN_TYPES))
)

# Every statement below finds its jobs by `job_id = ANY (…)`, so that it reads those alone: a plan that was made while the
# table was small, and is kept while it grows, has no other way. A join to the requested topics would leave it the choice of
# reading all jobs, done ones included.

# A job whose lease ended still has its token: its holder never reported back, which counts as a crash.
_CLAIM = (
    text("""
    WITH due AS (
        SELECT job.job_id
        FROM unnest(:topics, :limits) AS wanted (topic, free)
        CROSS JOIN LATERAL (
            SELECT job_id FROM outbox
            WHERE topic = wanted.topic AND state = 'PENDING' AND next_attempt_time <= now()
            ORDER BY next_attempt_time
            LIMIT wanted.free
            FOR UPDATE SKIP LOCKED
        ) AS job
    )
    UPDATE outbox SET
        attempts = least(attempts, 2147483646) + 1,
        crashes = least(crashes, 2147483646) + (lease_token IS NOT NULL)::int,
        lease_token = :token,
        next_attempt_time = now() + make_interval(secs => :lease_seconds)
    WHERE outbox.job_id = ANY (ARRAY (SELECT job_id FROM due))
    RETURNING job_id, topic, dedup_key, payload, attempts, lease_token, crashes
""")
    .bindparams(
        bindparam("topics", type_=ARRAY(Text)),
        bindparam("limits", type_=ARRAY(Integer)),
        bindparam("token", type_=Uuid),
        bindparam("lease_seconds", type_=Float),
    )
    .columns(*result_columns(f"{_COLUMNS}, crashes", **_COLUMN_TYPES))
)

# A job with a lease token is PENDING. (Compared with its state, the index of all PENDING jobs would be another way.)
_IS_MINE = "job_id = ANY (:job_ids) AND lease_token = (:tokens)[array_position(:job_ids, job_id)]"

_MARK_DONE = text(f"""
    UPDATE outbox SET state = :state, last_error = :note, done_time = now(), lease_token = NULL, crashes = 0
    WHERE {_IS_MINE}
    RETURNING job_id
""").bindparams(  # noqa: S608 - constants of this module
    bindparam("job_ids", type_=ARRAY(BigInteger)),
    bindparam("tokens", type_=ARRAY(Uuid)),
    bindparam("state", type_=Text),
    bindparam("note", type_=Text),
)

_MARK_FAILED = text("""
    UPDATE outbox SET
        state = CASE WHEN failed.retry_seconds IS NULL THEN 'PARKED' ELSE 'PENDING' END,
        last_error = failed.error,
        payload = outbox.payload || failed.progress,
        lease_token = NULL,
        crashes = 0,
        next_attempt_time = now() + make_interval(secs => coalesce(failed.retry_seconds, 0))
    FROM unnest(:job_ids, :tokens, :errors, :retry_seconds, :progress)
        AS failed (job_id, lease_token, error, retry_seconds, progress)
    WHERE outbox.job_id = ANY (:job_ids) AND outbox.job_id = failed.job_id AND outbox.lease_token = failed.lease_token
    RETURNING outbox.job_id
""").bindparams(
    bindparam("job_ids", type_=ARRAY(BigInteger)),
    bindparam("tokens", type_=ARRAY(Uuid)),
    bindparam("errors", type_=ARRAY(Text)),
    bindparam("retry_seconds", type_=ARRAY(Float)),
    bindparam("progress", type_=ARRAY(JSONB)),
)

_RELEASE = text(f"""
    UPDATE outbox SET lease_token = NULL, attempts = attempts - 1, next_attempt_time = now() WHERE {_IS_MINE}
""").bindparams(  # noqa: S608 - as above
    bindparam("job_ids", type_=ARRAY(BigInteger)), bindparam("tokens", type_=ARRAY(Uuid))
)

# A lease has its end in the same column. So many at a time, that no statement holds many rows for long.
_END_BACKOFFS = text("""
    UPDATE outbox SET next_attempt_time = now()
    WHERE job_id = ANY (ARRAY (
        SELECT job_id FROM outbox
        WHERE topic = ANY (:topics) AND state = 'PENDING' AND next_attempt_time > now() AND lease_token IS NULL
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ))
""").bindparams(bindparam("topics", type_=ARRAY(Text)))

_END_FUTURE_WAITS = text("""
    UPDATE outbox SET next_attempt_time = now()
    WHERE topic = ANY (:topics) AND state = 'PENDING' AND next_attempt_time > now() + make_interval(secs => :longest_seconds)
""").bindparams(bindparam("topics", type_=ARRAY(Text)), bindparam("longest_seconds", type_=Float))

_REMOVE_DONE = text("""
    DELETE FROM outbox WHERE job_id = ANY (ARRAY (
        SELECT job_id FROM outbox
        WHERE topic = ANY (:topics) AND state IN ('DONE', 'SKIPPED') AND dismissed_by IS NULL
            AND done_time < now() - make_interval(secs => :older_than_seconds)
        ORDER BY done_time LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ))
""").bindparams(bindparam("topics", type_=ARRAY(Text)), bindparam("older_than_seconds", type_=Float))


async def enqueue(
    connection: AsyncConnection,
    jobs: Sequence[NewJob],
    *,
    lease: timedelta = timedelta(0),
    leased: Collection[str] = (),
) -> Sequence[Job]:
    """Enqueue `jobs` in the caller's transaction and return those that were new.

    Jobs of the topics `leased` are inserted already leased to this process for the time `lease`: after the commit they are
    dispatched to its worker, which saves the claim's round trip. If the process dies first, the lease ends and any worker
    claims them. Jobs of other topics are returned without a lease and cannot be marked; a worker claims them.
    """
    rows = await connection.execute(
        _ENQUEUE,
        {
            "topics": [job.topic for job in jobs],
            "dedup_keys": [job.dedup_key for job in jobs],
            "incident_ids": [job.incident_id for job in jobs],
            "payloads": [dict(job.payload) for job in jobs],
            "leased": [job.topic in leased for job in jobs],
            "token": uuid.uuid4(),
            "lease_seconds": lease.total_seconds(),
        },
    )
    return [Job(*row) for row in rows]


async def claim(
    connection: AsyncConnection, free: Mapping[str, int], *, lease: timedelta
) -> Sequence[tuple[Job, int]]:
    """Lease due jobs, at most `free[topic]` of each topic named, oldest due first.

    Returns each with its number of crashes: how many leases in a row ended without a report from their holders. Topics
    not named are left alone: another version of the service may know them.
    """
    rows = await connection.execute(
        _CLAIM,
        {
            "topics": list(free),
            "limits": list(free.values()),
            "token": uuid.uuid4(),
            "lease_seconds": lease.total_seconds(),
        },
    )
    return [(Job(*fields), crashes) for *fields, crashes in rows]


async def mark_done(
    connection: AsyncConnection, jobs: Sequence[Job], *, skip_reason: str | None = None
) -> frozenset[int]:
    """Mark jobs DONE (SKIPPED with `skip_reason`) and return the ids of those whose lease still was the caller's."""
    rows = await connection.scalars(
        _MARK_DONE,
        {
            **_mine(jobs),
            "state": "DONE" if skip_reason is None else "SKIPPED",
            "note": skip_reason,
        },
    )
    return frozenset(rows)


async def mark_failed(connection: AsyncConnection, failures: Sequence[Failure]) -> frozenset[int]:
    """Record failed attempts (retry or park) and return the ids of those whose lease still was the caller's."""
    rows = await connection.scalars(
        _MARK_FAILED,
        {
            "job_ids": [failure.job.job_id for failure in failures],
            "tokens": [failure.job.lease_token for failure in failures],
            "errors": [storable_error(failure.error) for failure in failures],
            "retry_seconds": [
                None if failure.retry_after is None else failure.retry_after.total_seconds()
                for failure in failures
            ],
            "progress": [dict(failure.progress) for failure in failures],
        },
    )
    return frozenset(rows)


def storable_error(error: str) -> str:
    """Return what PostgreSQL can keep of an error: no U+0000, no half of a character, at most 500 characters."""
    short = error[:MAX_ERROR_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return short.encode("utf-8", "replace").decode("utf-8")


async def release(connection: AsyncConnection, jobs: Sequence[Job]) -> None:
    """Release the leases of jobs that were not tried, so that any process may claim them at once."""
    await connection.execute(_RELEASE, _mine(jobs))


def _mine(jobs: Sequence[Job]) -> Mapping[str, object]:
    # A lease that was lost and claimed again has two tokens here: the later one holds.
    tokens = {job.job_id: job.lease_token for job in jobs}
    return {"job_ids": list(tokens), "tokens": list(tokens.values())}


async def end_backoffs(connection: AsyncConnection, topics: Sequence[str], *, limit: int) -> int:
    """Make at most `limit` jobs due now that wait for their backoff; returns how many."""
    result = await connection.execute(_END_BACKOFFS, {"topics": list(topics), "limit": limit})
    return result.rowcount


async def end_future_waits(connection: AsyncConnection, topics: Sequence[str], *, longest: timedelta) -> int:
    """Make jobs due now that would wait longer than `longest`, the longest wait there is; returns how many.

    The database's clock was set back after they were written.
    """
    result = await connection.execute(
        _END_FUTURE_WAITS, {"topics": list(topics), "longest_seconds": longest.total_seconds()}
    )
    return result.rowcount


async def remove_done(
    connection: AsyncConnection, topics: Sequence[str], *, older_than: timedelta, limit: int
) -> int:
    """Remove at most `limit` jobs of `topics` that were done longer ago than `older_than`; returns how many.

    Dismissed jobs stay: they are the record of what an operator decided.

    The dedup key goes with the row: use it only where enqueuing the same intent again is harmless.
    """
    result = await connection.execute(
        _REMOVE_DONE,
        {"topics": list(topics), "older_than_seconds": older_than.total_seconds(), "limit": limit},
    )
    return result.rowcount
