"""What an operator does with dead letters: re-queue them, one or many, or dismiss them. Wake the worker after the commit."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from servicekit.outbox.jobs import JOB_COLUMNS, JobRecord, JobState, job_statement, to_record

_QUALIFIED = ", ".join(f"outbox.{column.strip()}" for column in JOB_COLUMNS.split(","))


class JobEndedError(Exception):
    """The job has ended: there is nothing to re-queue."""

    def __init__(self, state: JobState) -> None:
        super().__init__(f"the job is {state}")
        self.state = state


class JobNotParkedError(Exception):
    """The job is not PARKED: there is nothing to dismiss."""

    def __init__(self, state: JobState) -> None:
        super().__init__(f"the job is {state}")
        self.state = state


_GET_BY_ID = job_statement(
    f"SELECT {JOB_COLUMNS} FROM outbox WHERE job_id = :job_id FOR NO KEY UPDATE"  # noqa: S608 - constants
)
_GET_BY_KEY = job_statement(
    f"SELECT {JOB_COLUMNS} FROM outbox WHERE topic = :topic AND dedup_key = :dedup_key FOR NO KEY UPDATE"  # noqa: S608 - as above
)


async def get_by_id_for_update(connection: AsyncConnection, job_id: int) -> JobRecord | None:
    """Return a job, locked so that its state cannot change before the transaction ends; None when unknown."""
    row = (await connection.execute(_GET_BY_ID, {"job_id": job_id})).one_or_none()
    return None if row is None else to_record(row)


async def get_by_key_for_update(connection: AsyncConnection, topic: str, dedup_key: str) -> JobRecord | None:
    """Return a topic's job, locked so that its state cannot change before the transaction ends; None when unknown."""
    row = (await connection.execute(_GET_BY_KEY, {"topic": topic, "dedup_key": dedup_key})).one_or_none()
    return None if row is None else to_record(row)


# (Compared with the state as it is, an index of all PARKED jobs would be another way to find the job.)
_IS_PARKED = "job_id = :job_id AND state || '' = 'PARKED'"
_SET_PENDING = (
    "state = 'PENDING', crashes = 0, lease_token = NULL, next_attempt_time = now(), requeued_by = :actor"
)
_REQUEUE = job_statement(
    f"UPDATE outbox SET {_SET_PENDING} WHERE {_IS_PARKED} RETURNING {JOB_COLUMNS}"  # noqa: S608 - as above
)


async def requeue(connection: AsyncConnection, job: JobRecord, *, actor: str) -> JobRecord:
    """Re-queue a PARKED (dead-lettered) job, due now; a PENDING one is returned as it is.

    Raises JobEndedError when it has ended.
    """
    if job.state not in (JobState.PENDING, JobState.PARKED):
        raise JobEndedError(job.state)
    row = (await connection.execute(_REQUEUE, {"job_id": job.job_id, "actor": actor})).one_or_none()
    return job if row is None else to_record(row)


# A PARKED job's next_attempt_time is when it was parked: one that is parked again goes behind those that wait.
_REQUEUE_PARKED = job_statement(
    f"""
    WITH parked AS (
        SELECT job_id, next_attempt_time AS park_time FROM outbox
        WHERE state = 'PARKED' AND (:every_topic OR topic = ANY (:topics))
        ORDER BY next_attempt_time, job_id LIMIT :limit
        FOR NO KEY UPDATE SKIP LOCKED
    ), requeued AS (
        UPDATE outbox SET {_SET_PENDING} FROM parked
        WHERE outbox.job_id = ANY (ARRAY (SELECT job_id FROM parked)) AND outbox.job_id = parked.job_id
        RETURNING {_QUALIFIED}, park_time
    )
    SELECT {JOB_COLUMNS} FROM requeued ORDER BY park_time, job_id
    """,  # noqa: S608 - as above
    "topics",
)


async def requeue_parked(
    connection: AsyncConnection, topics: Sequence[str] | None, *, actor: str, limit: int
) -> Sequence[JobRecord]:
    """Re-queue the longest PARKED (dead-lettered) jobs of these topics (None: of every topic), at most `limit`.

    Jobs that another transaction has locked are left to it.
    """
    parameters = {"topics": topics or [], "every_topic": topics is None, "actor": actor, "limit": limit}
    return [to_record(row) for row in await connection.execute(_REQUEUE_PARKED, parameters)]


_DISMISS = job_statement(f"""
    UPDATE outbox SET state = 'DONE', dismissed_by = :actor, dismiss_reason = :reason, done_time = now()
    WHERE {_IS_PARKED}
    RETURNING {JOB_COLUMNS}
""")  # noqa: S608 - as above


async def dismiss(connection: AsyncConnection, job: JobRecord, *, actor: str, reason: str) -> JobRecord:
    """Give up on a locked PARKED (dead-lettered) job for good, on record with the actor and the reason.

    Raises JobNotParkedError in every other state.
    """
    parameters = {"job_id": job.job_id, "actor": actor, "reason": reason}
    row = (await connection.execute(_DISMISS, parameters)).one_or_none()
    if row is None:
        raise JobNotParkedError(job.state)
    return to_record(row)
