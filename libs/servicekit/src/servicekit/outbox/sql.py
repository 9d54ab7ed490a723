"""The outbox as part of larger statements: SQL fragments, so that the table's columns are named in this package alone."""

from servicekit.outbox.tables import NOTIFY_CHANNEL


def notify_workers(jobs: str) -> str:
    """Return the SELECT that wakes the workers at the commit if there is a job to claim, for a WITH clause.

    `jobs` is a relation with the column `is_due`. Something has to read the result, or it is not evaluated. Commits that
    notify follow one another, each with a flush of its own: jobs that are in a worker's hands notify none.
    """
    return f"SELECT pg_notify('{NOTIFY_CHANNEL}', '') FROM (SELECT FROM {jobs} WHERE is_due LIMIT 1) AS due"  # noqa: S608 - as below


def insert_jobs(source: str) -> str:
    """Return the INSERT of one job for each row of `source`, for a WITH clause.

    `source` is a relation with the columns topic, dedup_key, incident_id, payload and skip_reason: a row with a reason is inserted
    SKIPPED and never runs. Binds :token (uuid, NULL to insert the jobs unleased) and :lease_seconds (float8). Returns
    topic, dedup_key, job_id, `is_leased` and `is_due`, for `notify_workers`. A dedup key that is taken fails the statement.
    """
    return f"""
        INSERT INTO outbox
            (topic, dedup_key, incident_id, payload, state, last_error, done_time, attempts, lease_token, next_attempt_time)
        SELECT topic, dedup_key, incident_id, payload,
            CASE WHEN skip_reason IS NULL THEN 'PENDING' ELSE 'SKIPPED' END,
            skip_reason,
            CASE WHEN skip_reason IS NULL THEN NULL ELSE now() END,
            CASE WHEN skip_reason IS NULL AND :token IS NOT NULL THEN 1 ELSE 0 END,
            CASE WHEN skip_reason IS NULL THEN :token END,
            now() + make_interval(secs => :lease_seconds)
        FROM {source}
        RETURNING topic, dedup_key, job_id, lease_token IS NOT NULL AS is_leased,
            state = 'PENDING' AND lease_token IS NULL AS is_due
    """  # noqa: S608 - the relation is a constant of the caller's module


def insert_ended_jobs(source: str) -> str:
    """Return the INSERT of one job that has ended for each row of `source`: a record of an intent that must not run.

    `source` is a relation with the columns topic, dedup_key, incident_id, payload, skip_reason and create_time: a row with a reason
    is inserted SKIPPED, any other DONE. A dedup key that is taken fails the statement.
    """
    return f"""
        INSERT INTO outbox (topic, dedup_key, incident_id, payload, state, last_error, create_time, done_time)
        SELECT topic, dedup_key, incident_id, payload, CASE WHEN skip_reason IS NULL THEN 'DONE' ELSE 'SKIPPED' END, skip_reason,
            create_time, now()
        FROM {source}
    """  # noqa: S608 - the relation is a constant of the caller's module


# OFFSET 0 keeps the next two from being made joins, for which all jobs might be read: each job is looked up by its key.


def open_job_exists(*, topic: str, dedup_key: str) -> str:
    """Return the condition that a job with this topic and key waits: PENDING or PARKED. Both are SQL expressions."""
    return f"""EXISTS (
        SELECT FROM outbox
        WHERE outbox.topic = {topic} AND outbox.dedup_key = {dedup_key} AND outbox.state IN ('PENDING', 'PARKED')
        OFFSET 0)
    """


def open_or_dismissed_job_exists(*, topic: str, dedup_key: str) -> str:
    """Return the condition that a job with this topic and key waits, or was dismissed. Both are SQL expressions."""
    return f"""EXISTS (
        SELECT FROM outbox
        WHERE outbox.topic = {topic} AND outbox.dedup_key = {dedup_key}
            AND (outbox.state IN ('PENDING', 'PARKED') OR outbox.dismissed_by IS NOT NULL)
        OFFSET 0)
    """
