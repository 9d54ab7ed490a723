"""Marks approvals that were not decided or executed before their expiry, a batch at a time.

An approval past its expiry is refused from that instant on. Marking it makes its state, the stats and the incident's
timeline say so.
"""

import structlog

from approval.delivery.model import TimelineEvent
from approval.delivery.timeline_entries import entry
from approval.delivery.timeline_job import timeline_job
from approval.lifecycle import repository
from approval.model import OWN_ACTOR, NotificationEvent
from approval.notification.jobs import Notifications
from servicekit.audit.model import background
from servicekit.outbox.transaction import Transactions

_log = structlog.get_logger()
_BATCH = 100


async def expire(transactions: Transactions, notifications: Notifications) -> bool:
    """Mark a batch of approvals that are past their expiry as EXPIRED; returns whether there may be more."""
    async with transactions.begin() as transaction:
        expired = await repository.expire(transaction, limit=_BATCH)
        call = background("expiry", OWN_ACTOR)
        for each in expired:
            transaction.record(call, each.approval_id)
            transaction.enqueue(*notifications.jobs(each, NotificationEvent.EXPIRED, each.expire_time))
        transaction.enqueue(
            *(
                timeline_job(
                    entry(
                        each.approval_id,
                        each.incident_id,
                        TimelineEvent.EXPIRED,
                        each.expire_time,
                        summary=each.action,
                    )
                )
                for each in expired
            )
        )
    if expired:
        _log.info("approvals_expired", approvals=len(expired))
    return len(expired) == _BATCH
