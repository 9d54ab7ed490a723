"""Reminds people of approvals that have waited long for a decision, once each, a batch at a time.

The mark on the approval and the job of the message are one transaction: a process that dies leaves both or neither.
"""

from datetime import timedelta

import structlog

from approval.notification import repository
from approval.notification.jobs import Notifications
from servicekit.outbox.transaction import Transactions

_log = structlog.get_logger()
_BATCH = 100


async def remind(transactions: Transactions, notifications: Notifications, *, after: timedelta) -> bool:
    """Enqueue the reminders of a batch of approvals that have waited longer than `after`; returns whether there may be more."""
    async with transactions.begin() as transaction:
        reminders = await repository.claim_reminders(transaction.connection, after=after, limit=_BATCH)
        for reminder in reminders:
            transaction.enqueue(*notifications.jobs_of(reminder))
    if reminders:
        _log.info("approval_reminders", approvals=len(reminders))
    return len(reminders) == _BATCH
