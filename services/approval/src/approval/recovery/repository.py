"""The statements of recoveries: looks under a lease, recorded by its holder alone. Nothing here commits."""

import uuid
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Float, Integer, Text, Uuid

from approval.counters import RECOVERIES
from approval.model import Recovery
from approval.recovery.model import ClaimedLook, Judgement, Standing
from servicekit.outbox.transaction import Transaction

_BEGIN = text("""
    INSERT INTO recoveries (approval_id, incident_id, deadline, next_look_time)
    SELECT approval_id, incident_id, recovery_deadline, now() + make_interval(secs => :interval_seconds)
    FROM approvals WHERE approval_id = :approval_id
    ON CONFLICT (approval_id) DO NOTHING
""").bindparams(bindparam("interval_seconds", type_=Float))
_SUPERSEDE = text("""
    WITH earlier AS (
        SELECT approval_id FROM recoveries
        WHERE incident_id = :incident_id AND approval_id <> :approval_id AND later_approval_id IS NULL
        ORDER BY approval_id
        FOR UPDATE
    )
    UPDATE recoveries SET later_approval_id = :approval_id, next_look_time = least(next_look_time, now())
    FROM earlier
    WHERE recoveries.approval_id = ANY (ARRAY (SELECT approval_id FROM earlier)) AND recoveries.approval_id = earlier.approval_id
""")


async def begin(
    connection: AsyncConnection, approval_id: str, incident_id: str, *, interval: timedelta
) -> None:
    """Have the recovery of an operation that has just worked looked at; those of earlier ones for the incident end."""
    await connection.execute(
        _BEGIN, {"approval_id": approval_id, "interval_seconds": interval.total_seconds()}
    )
    await connection.execute(_SUPERSEDE, {"approval_id": approval_id, "incident_id": incident_id})


# What the lease of a process that died holds is due again when it ends. What that one has seen is not known: it may have been
# the alert, so the looks in a row begin anew.
_CLAIM = text("""
    WITH due AS (
        SELECT approval_id FROM recoveries
        WHERE next_look_time <= now() AND deadline <= now() - make_interval(secs => :overdue_seconds)
        ORDER BY next_look_time LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    UPDATE recoveries SET look_token = :token,
        looks_without_alert = CASE WHEN look_token IS NULL THEN looks_without_alert ELSE 0 END, next_look_time = now() + make_interval(secs => :lease_seconds)
    FROM due
    WHERE recoveries.approval_id = ANY (ARRAY (SELECT approval_id FROM due)) AND recoveries.approval_id = due.approval_id
    RETURNING recoveries.approval_id, recoveries.incident_id
""").bindparams(
    bindparam("token", type_=Uuid),
    bindparam("lease_seconds", type_=Float),
    bindparam("overdue_seconds", type_=Float),
)
# The window of every recovery is over within this time from now.
_ANY_DEADLINE = -timedelta(days=36_500)


async def claim(
    connection: AsyncConnection, *, lease: timedelta, limit: int, overdue: timedelta = _ANY_DEADLINE
) -> Sequence[ClaimedLook]:
    """Lease at most `limit` due looks to this process; only those whose window has been over for `overdue`."""
    token = uuid.uuid4()
    rows = await connection.execute(
        _CLAIM,
        {
            "token": token,
            "lease_seconds": lease.total_seconds(),
            "overdue_seconds": overdue.total_seconds(),
            "limit": limit,
        },
    )
    return [ClaimedLook(row.approval_id, row.incident_id, token) for row in rows]


_STANDING = text("""
    SELECT looks_without_alert, reports, deadline <= clock_timestamp() AS is_over, coalesce(later_approval_id, '') AS later_approval_id,
        EXISTS (
            SELECT FROM approvals WHERE approvals.incident_id = recoveries.incident_id AND state = 'EXECUTING'
        ) AS is_worked_on
    FROM recoveries WHERE approval_id = :approval_id AND look_token = :token
    FOR UPDATE OF recoveries
""").bindparams(bindparam("token", type_=Uuid))


async def get_for_update(connection: AsyncConnection, look: ClaimedLook) -> Standing | None:
    """Return how a recovery stands, locked; None when the lease of this look is no longer held."""
    row = (
        await connection.execute(_STANDING, {"approval_id": look.approval_id, "token": look.token})
    ).one_or_none()
    return None if row is None else Standing(*row)


_GO_ON = text("""
    UPDATE recoveries SET look_token = NULL, next_look_time = clock_timestamp() + make_interval(secs => :interval_seconds),
        looks_without_alert = :looks, reports = coalesce(:reports, reports)
    WHERE approval_id = :approval_id
""").bindparams(
    bindparam("interval_seconds", type_=Float),
    bindparam("looks", type_=Integer),
    bindparam("reports", type_=Integer),
)


async def go_on(
    connection: AsyncConnection,
    look: ClaimedLook,
    judgement: Judgement,
    *,
    reports: int | None,
    interval: timedelta,
) -> None:
    """Have a locked recovery looked at again after `interval`."""
    await connection.execute(
        _GO_ON,
        {
            "approval_id": look.approval_id,
            "interval_seconds": interval.total_seconds(),
            "looks": judgement.looks_without_alert,
            "reports": reports,
        },
    )


_END = text("""
    WITH ended AS (DELETE FROM recoveries WHERE approval_id = :approval_id)
    UPDATE approvals SET recovery = :recovery, recovery_time = now(), recovery_message = :message, update_time = now(),
        version = least(version, 9223372036854775806) + 1
    WHERE approval_id = :approval_id AND state = 'SUCCEEDED' AND recovery = 'PENDING'
    RETURNING approval_id
""").bindparams(bindparam("message", type_=Text))


async def end(transaction: Transaction, look: ClaimedLook, recovery: Recovery, *, message: str) -> bool:
    """End a locked recovery and count it; False when the approval is not one whose recovery is PENDING any more."""
    ended = await transaction.connection.scalar(
        _END, {"approval_id": look.approval_id, "recovery": recovery, "message": message}
    )
    if ended is None:
        return False
    transaction.count(RECOVERIES, recovery)
    return True


# A row that was removed by hand.
_RESTORE = text("""
    INSERT INTO recoveries (approval_id, incident_id, deadline, next_look_time)
    SELECT approval_id, incident_id, coalesce(recovery_deadline, now()), now() FROM approvals
    WHERE recovery = 'PENDING' AND NOT EXISTS (
        SELECT FROM recoveries WHERE recoveries.approval_id = approvals.approval_id)
    ORDER BY approval_id LIMIT :limit
    ON CONFLICT (approval_id) DO NOTHING
    RETURNING approval_id
""")


async def restore(connection: AsyncConnection, *, limit: int) -> Sequence[str]:
    """Have at most `limit` PENDING recoveries looked at that no process looks at; returns their approvals' ids."""
    return (await connection.scalars(_RESTORE, {"limit": limit})).all()
