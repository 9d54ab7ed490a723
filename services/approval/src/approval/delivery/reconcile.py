"""Queues the resolves of approvals that were executed, not acknowledged, and have no open delivery.

The outbox does not lose intents. This repairs what is outside its reach: a row removed by hand, imported approvals, a
restore from a backup.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from approval.delivery import repository
from approval.delivery.resolve_job import RESOLVE_TOPIC, resolve_job
from servicekit.outbox import jobs
from servicekit.outbox.transaction import Transactions

_log = structlog.get_logger()
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class MissingResolves:
    """How many approvals lacked a delivery, and the ids of the first thousand."""

    count: int
    approval_ids: Sequence[str]


class Reconciler:
    """Finds and queues missing resolves."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def find(self) -> MissingResolves:
        """Return the first thousand missing resolves; nothing is queued."""
        async with self._transactions.statement() as connection:
            missing = await repository.find_unacknowledged(connection, limit=_BATCH)
        return MissingResolves(len(missing), [intent.approval_id for intent in missing])

    async def reconcile(self) -> MissingResolves:
        """Queue all missing resolves. Idempotent, also in concurrent calls: an approval has one delivery."""
        count = 0
        first: list[str] = []
        has_more = True
        while has_more:
            queued, has_more = await self._queue_batch()
            count += len(queued)
            first.extend(queued[: _BATCH - len(first)])
        return MissingResolves(count, first)

    async def reconcile_batch(self) -> bool:
        """Queue a batch of missing resolves; returns whether there may be more."""
        _, has_more = await self._queue_batch()
        return has_more

    async def _queue_batch(self) -> tuple[Sequence[str], bool]:
        """Queue a batch; return the ids of the approvals that were queued, and whether there may be more."""
        async with self._transactions.begin() as transaction:
            missing = await repository.find_unacknowledged(
                transaction.connection, limit=_BATCH, for_update=True
            )
            if missing:
                # A delivery that is DONE while its approval is unacknowledged: the two were restored apart.
                await jobs.remove_ended(
                    transaction.connection, RESOLVE_TOPIC, [intent.approval_id for intent in missing]
                )
            transaction.enqueue(*(resolve_job(intent) for intent in missing))
        # A concurrent reconciliation may just have queued some of them.
        queued = [job.dedup_key for job in transaction.enqueued]
        if queued:
            _log.warning("reconciled", approvals=len(queued))
        return queued, len(missing) == _BATCH
