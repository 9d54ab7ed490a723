"""The statements of notifications. Nothing here commits."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Float

from approval.model import NotificationEvent, Risk, State
from approval.notification.model import NotificationIntent, Subject

_SUBJECT = text("""
    SELECT approval_id, action, risk, namespace, rationale, proposed_by, superseded_proposers, required_approvals,
        (SELECT count(*) FROM approval_decisions AS decision
            WHERE decision.approval_id = approvals.approval_id AND kind = 'APPROVE') AS approvals,
        state, create_time, expire_time, decide_time, expire_time <= clock_timestamp() AS is_past_expiry
    FROM approvals WHERE approval_id = :approval_id
""")


async def get_subject(connection: AsyncConnection, approval_id: str) -> Subject | None:
    """Return an approval as a message shows it; None when it was removed."""
    row = (await connection.execute(_SUBJECT, {"approval_id": approval_id})).one_or_none()
    if row is None:
        return None
    return Subject(
        approval_id=row.approval_id,
        action=row.action,
        risk=Risk(row.risk),
        namespace=row.namespace,
        rationale=row.rationale,
        proposers=list(dict.fromkeys((row.proposed_by, *row.superseded_proposers))),
        required_approvals=row.required_approvals,
        approvals=row.approvals,
        state=State(row.state),
        create_time=row.create_time,
        expire_time=row.expire_time,
        decide_time=row.decide_time,
        is_past_expiry=row.is_past_expiry,
    )


# One whose row is locked is being decided, or reminded of by another process. Neither version nor update_time change: who
# has read the approval may still decide about it.
_CLAIM_REMINDERS = text("""
    WITH waiting AS (
        SELECT approval_id FROM approvals
        WHERE state = 'PENDING' AND reminder_time IS NULL AND expire_time > now() AND NOT canary
            AND create_time <= now() - make_interval(secs => :after_seconds)
        ORDER BY create_time LIMIT :limit
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE approvals SET reminder_time = now()
    FROM waiting
    WHERE approvals.approval_id = ANY (ARRAY (SELECT approval_id FROM waiting)) AND approvals.approval_id = waiting.approval_id
    RETURNING approvals.approval_id, approvals.incident_id, approvals.reminder_time
""").bindparams(bindparam("after_seconds", type_=Float))


async def claim_reminders(
    connection: AsyncConnection, *, after: timedelta, limit: int
) -> Sequence[NotificationIntent]:
    """Mark at most `limit` approvals that have waited for a decision longer than `after`, and return their reminders.

    Each approval is marked once, by one process.
    """
    rows = await connection.execute(
        _CLAIM_REMINDERS, {"after_seconds": after.total_seconds(), "limit": limit}
    )
    return [_reminder(*row) for row in rows]


def _reminder(approval_id: str, incident_id: str, reminder_time: datetime) -> NotificationIntent:
    return NotificationIntent(
        approval_id, incident_id, NotificationEvent.REMINDER, reminder_time, actor="", reason=""
    )
