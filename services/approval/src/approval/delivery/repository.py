"""The resolve deliveries: what is queued, how they are listed and put back."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from approval.model import Delivery, DeliveryState, ResolutionType, ResolveIntent
from servicekit.outbox import jobs
from servicekit.outbox.queue import Job, NewJob

RESOLVE_TOPIC = "incident.resolve"


def resolve_job(intent: ResolveIntent) -> NewJob:
    """Return the job of an intent. Its key is the approval's id: whoever queues it again, there is one."""
    return NewJob(
        RESOLVE_TOPIC,
        intent.approval_id,
        {
            "approval_id": intent.approval_id,
            "incident_id": intent.incident_id,
            "resolution_type": intent.resolution_type,
            "action": intent.action,
        },
    )


def resolve_intent(job: Job) -> ResolveIntent:
    """Return the intent of a job."""
    payload = job.payload
    return ResolveIntent(
        payload["approval_id"],
        payload["incident_id"],
        ResolutionType(payload["resolution_type"]),
        payload["action"],
    )


_LIST = (
    text("""
    SELECT job_id, payload, state, attempts, last_error, create_time, next_attempt_time, done_time
    FROM outbox
    WHERE topic = :topic
        AND (cardinality(:states) = 0 OR state = ANY (:states))
        AND (:approval_id = '' OR dedup_key = :approval_id)
        AND job_id < :before
    ORDER BY job_id DESC LIMIT :limit
""")
    .bindparams(bindparam("states", type_=ARRAY(Text)), bindparam("approval_id", type_=Text))
    .columns(payload=JSONB)
)
_NEWEST = 2**63 - 1


async def list_deliveries(
    connection: AsyncConnection,
    *,
    states: Sequence[DeliveryState],
    approval_id: str,
    before: int | None,
    limit: int,
) -> Sequence[Delivery]:
    """Return at most `limit` deliveries, newest first, those older than the id `before` when given."""
    rows = await connection.execute(
        _LIST,
        {
            "topic": RESOLVE_TOPIC,
            "states": list(states),
            "approval_id": approval_id,
            "before": _NEWEST if before is None else before,
            "limit": limit,
        },
    )
    return [_delivery(row) for row in rows]


_LIST_WAITING = text("""
    SELECT job_id, payload, state, attempts, last_error, create_time, next_attempt_time, done_time
    FROM outbox WHERE topic = :topic AND state IN ('PENDING', 'PARKED')
    ORDER BY state, create_time, job_id LIMIT :limit
""").columns(payload=JSONB)


async def list_waiting(connection: AsyncConnection, *, limit: int) -> Sequence[Delivery]:
    """Return at most `limit` deliveries that are PARKED, then PENDING ones, oldest first."""
    rows = await connection.execute(_LIST_WAITING, {"topic": RESOLVE_TOPIC, "limit": limit})
    return [_delivery(row) for row in rows]


_GET = text("""
    SELECT job_id, payload, state, attempts, last_error, create_time, next_attempt_time, done_time
    FROM outbox WHERE topic = :topic AND job_id = :job_id FOR NO KEY UPDATE
""").columns(payload=JSONB)


async def get_for_update(connection: AsyncConnection, delivery_id: int) -> Delivery | None:
    """Return a delivery, locked so that its state cannot change before the transaction ends; None when unknown."""
    row = (await connection.execute(_GET, {"topic": RESOLVE_TOPIC, "job_id": delivery_id})).one_or_none()
    return None if row is None else _delivery(row)


async def requeue(connection: AsyncConnection, delivery_id: int) -> None:
    """Re-queue a PARKED (dead-lettered) delivery, due now; a PENDING one stays as it is."""
    job = await jobs.get_by_id_for_update(connection, RESOLVE_TOPIC, delivery_id)
    if job is not None:
        await jobs.requeue(connection, job)


def _delivery(row: Sequence[Any]) -> Delivery:
    job_id, payload, state, attempts, last_error, create_time, next_attempt_time, done_time = row
    return Delivery(
        job_id,
        payload["approval_id"],
        payload["incident_id"],
        DeliveryState(state),
        attempts,
        last_error or "",
        create_time,
        next_attempt_time,
        done_time,
    )
