"""The statements on resolve deliveries and on their acknowledgement. Nothing here commits."""

from collections.abc import Sequence

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from approval.counters import NOOP_RESOLUTIONS
from approval.delivery.errors import DeliveryDoneError, DeliveryNotFoundError
from approval.delivery.model import Delivery, DeliveryState, ResolutionType, ResolveIntent
from approval.delivery.resolve_job import RESOLVE_TOPIC, resolve_intent
from approval.model import OperationKind
from servicekit.outbox import jobs
from servicekit.outbox.jobs import JobEndedError, JobRecord
from servicekit.outbox.sql import open_job_exists
from servicekit.outbox.transaction import Transaction


async def list_deliveries(
    connection: AsyncConnection,
    *,
    states: Sequence[DeliveryState],
    approval_id: str,
    before: int | None,
    limit: int,
) -> Sequence[Delivery]:
    """Return at most `limit` deliveries, newest first, those older than the id `before` when given."""
    found = await jobs.list_jobs(
        connection,
        [RESOLVE_TOPIC],
        states=states,
        dedup_keys=[approval_id] if approval_id else None,
        before=before,
        limit=limit,
    )
    return [_delivery(job) for job in found]


async def list_open(connection: AsyncConnection, *, limit: int) -> Sequence[Delivery]:
    """Return at most `limit` deliveries that are PARKED, then PENDING ones, oldest first."""
    return [_delivery(job) for job in await jobs.list_open(connection, [RESOLVE_TOPIC], limit=limit)]


async def requeue(connection: AsyncConnection, delivery_id: int) -> Delivery:
    """Re-queue a PARKED (dead-lettered) delivery, due now; a PENDING one is returned as it is.

    Raises DeliveryNotFoundError, DeliveryDoneError.
    """
    job = await jobs.get_by_id_for_update(connection, RESOLVE_TOPIC, delivery_id)
    if job is None:
        raise DeliveryNotFoundError
    try:
        return _delivery(await jobs.requeue(connection, job))
    except JobEndedError:
        raise DeliveryDoneError from None


def _delivery(job: JobRecord) -> Delivery:
    intent = resolve_intent(job)
    return Delivery(
        job.job_id,
        intent.approval_id,
        intent.incident_id,
        DeliveryState(job.state),
        job.attempts,
        job.last_error,
        job.create_time,
        job.next_attempt_time,
        job.done_time,
    )


_ACKNOWLEDGE = text("""
    UPDATE approvals SET incident_resolve_time = now(), incident_unknown_time = NULL, incident_unknown_accepted_by = '',
        update_time = now(), version = version + 1
    FROM (
        SELECT approval_id FROM approvals WHERE approval_id = ANY (:approval_ids)
        ORDER BY approval_id
        FOR NO KEY UPDATE
    ) AS acknowledged
    WHERE approvals.approval_id = acknowledged.approval_id AND incident_resolve_time IS NULL
    RETURNING operation_kind
""").bindparams(bindparam("approval_ids", type_=ARRAY(Text)))


async def acknowledge(transaction: Transaction, approval_ids: Sequence[str]) -> None:
    """Record that the incident service acknowledged these resolves, and count those of NO_ACTION. Idempotent.

    An incident that was unknown is there again.
    """
    kinds = await transaction.connection.scalars(_ACKNOWLEDGE, {"approval_ids": sorted(approval_ids)})
    transaction.count(NOOP_RESOLUTIONS, amount=list(kinds).count(OperationKind.NO_ACTION))


# The approvals are few: a partial index holds those that succeeded and are unacknowledged.
_UNACKNOWLEDGED = f"""
    FROM approvals
    WHERE state = 'SUCCEEDED' AND incident_resolve_time IS NULL
        AND NOT {open_job_exists(topic=":topic", dedup_key="approvals.approval_id")}
"""
_SELECT = f"""
    SELECT approval_id, incident_id, operation_kind, action, incident_opening, execute_time {_UNACKNOWLEDGED}
    ORDER BY finish_time, approval_id LIMIT :limit
"""
_FIND = text(_SELECT)
# A locked approval is being acknowledged, or queued by a concurrent reconciliation. One that was acknowledged since this
# statement began is checked again when it is locked.
_FIND_FOR_UPDATE = text(f"{_SELECT} FOR NO KEY UPDATE OF approvals SKIP LOCKED")
_COUNT = text(f"SELECT count(*) {_UNACKNOWLEDGED}")


async def find_unacknowledged(
    connection: AsyncConnection, *, limit: int, for_update: bool = False
) -> Sequence[ResolveIntent]:
    """Return the intents of at most `limit` approvals that were executed, are not acknowledged and have no open delivery.

    `for_update` locks the approvals, and leaves out those that are locked.
    """
    statement = _FIND_FOR_UPDATE if for_update else _FIND
    rows = await connection.execute(statement, {"topic": RESOLVE_TOPIC, "limit": limit})
    return [
        ResolveIntent(
            row.approval_id,
            row.incident_id,
            ResolutionType.NO_ACTION
            if row.operation_kind == OperationKind.NO_ACTION
            else ResolutionType.AUTO_REPAIRED,
            row.action,
            row.incident_opening,
            row.execute_time,
        )
        for row in rows
    ]


async def count_unacknowledged(connection: AsyncConnection) -> int:
    """Return how many approvals were executed, are not acknowledged and have no open delivery."""
    count: int = (await connection.execute(_COUNT, {"topic": RESOLVE_TOPIC})).scalar_one()
    return count
