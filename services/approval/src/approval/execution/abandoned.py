"""Brings runs whose process died, and whose lease has ended, to INDETERMINATE."""

import structlog

from approval.delivery.model import TimelineEvent
from approval.delivery.timeline_entries import entry
from approval.delivery.timeline_job import timeline_job
from approval.execution import repository as execution_repository
from approval.lifecycle import repository
from approval.model import OWN_ACTOR
from servicekit.audit.model import background
from servicekit.outbox.transaction import Transactions

_log = structlog.get_logger()

_MESSAGE = "the process that ran it died in the middle: it may or may not have happened"
_BATCH = 100


async def mark_abandoned(transactions: Transactions) -> bool:
    """Bring a batch of abandoned runs to INDETERMINATE; returns whether there may be more."""
    async with transactions.begin() as transaction:
        approval_ids = await execution_repository.mark_abandoned(transaction, message=_MESSAGE, limit=_BATCH)
        if not approval_ids:
            return False
        call = background("abandoned", OWN_ACTOR)
        for approval_id in approval_ids:
            transaction.record(call, approval_id)
        found = await repository.get_many(transaction.connection, approval_ids)
        transaction.enqueue(
            *(
                timeline_job(
                    entry(
                        approval.approval_id,
                        approval.incident_id,
                        TimelineEvent.EXECUTION_FAILED,
                        approval.finish_time,
                        summary=f"indeterminate: {_MESSAGE}",
                    )
                )
                for approval in found.values()
            )
        )
    for approval in found.values():
        _log.error(
            "execution_indeterminate", approval_id=approval.approval_id, incident_id=approval.incident_id
        )
    return len(approval_ids) == _BATCH
