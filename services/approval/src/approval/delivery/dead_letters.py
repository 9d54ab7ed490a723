"""The use cases of deliveries, for an operator."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from approval.counters import DELIVERIES_DISMISSED
from approval.delivery import delivery_repository, repository
from approval.delivery.errors import DeliveryDoneError, DeliveryNotFoundError, DeliveryNotParkedError
from approval.delivery.model import Delivery, DeliveryState, DeliveryTopic
from servicekit.audit.model import Call
from servicekit.outbox import dead_letters
from servicekit.outbox.dead_letters import JobEndedError, JobNotParkedError
from servicekit.outbox.jobs import JobRecord, JobState
from servicekit.outbox.transaction import Transaction, Transactions

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """A page of deliveries; `next_before` is the id before which the next page starts, None on the last."""

    deliveries: Sequence[Delivery]
    next_before: int | None


class DeliveryUseCases:
    """Deliveries over one database."""

    def __init__(self, transactions: Transactions, *, reads: Transactions) -> None:
        """`reads` serves the list."""
        self._transactions = transactions
        self._reads = reads

    async def list(
        self,
        *,
        topics: Sequence[DeliveryTopic],
        states: Sequence[DeliveryState],
        approval_id: str,
        before: int | None,
        page_size: int,
    ) -> DeliveryPage:
        """Return the page of deliveries older than the id `before` (None: the newest).

        Without `topics` these are the resolves, and what is PARKED or DISMISSED of every topic.
        """
        async with self._reads.statement() as connection:
            found = await delivery_repository.list_deliveries(
                connection,
                topics=topics,
                states=states,
                approval_id=approval_id,
                before=before,
                limit=page_size + 1,
            )
        page = found[:page_size]
        return DeliveryPage(page, page[-1].delivery_id if len(found) > page_size else None)

    async def retry(self, delivery_id: int, *, call: Call) -> Delivery:
        """Re-queue a PARKED (dead-lettered) delivery, due now; a PENDING one is returned as it is.

        Raises DeliveryNotFoundError, DeliveryDoneError.
        """
        async with self._transactions.begin() as transaction:
            job = await _lock(transaction, delivery_id)
            try:
                requeued = await dead_letters.requeue(transaction.connection, job, actor=call.actor)
            except JobEndedError as exc:
                raise DeliveryDoneError(
                    delivery_id,
                    current=DeliveryState(exc.state),
                    allowed=(DeliveryState.PARKED, DeliveryState.PENDING),
                ) from None
            if job.state is JobState.PARKED:
                transaction.record(call, str(delivery_id), delivery_repository.to_delivery(job).approval_id)
        self._transactions.outbox.wake()
        if job.state is JobState.PARKED:
            _log.info("deliveries_requeued", actor=call.actor, deliveries=1)
        return delivery_repository.to_delivery(requeued)

    async def retry_parked(
        self, topics: Sequence[DeliveryTopic], *, limit: int, call: Call
    ) -> Sequence[Delivery]:
        """Re-queue the longest PARKED deliveries of these topics (none: of every topic), at most `limit`, due now."""
        async with self._transactions.begin() as transaction:
            requeued = await delivery_repository.requeue_parked(
                transaction.connection, topics, actor=call.actor, limit=limit
            )
            if requeued:
                transaction.record(call, *(str(delivery.delivery_id) for delivery in requeued))
        if requeued:
            self._transactions.outbox.wake()
            _log.info("deliveries_requeued", actor=call.actor, deliveries=len(requeued))
        return requeued

    async def dismiss(self, delivery_id: int, *, call: Call, reason: str) -> Delivery:
        """Give up on a PARKED (dead-lettered) delivery for good. Idempotent: a DISMISSED one is returned as it is.

        Raises DeliveryNotFoundError, DeliveryNotParkedError.
        """
        async with self._transactions.begin() as transaction:
            job = await _lock(transaction, delivery_id)
            if job.state is JobState.DISMISSED:
                return delivery_repository.to_delivery(job)
            try:
                job = await dead_letters.dismiss(transaction.connection, job, actor=call.actor, reason=reason)
            except JobNotParkedError as exc:
                raise DeliveryNotParkedError(
                    delivery_id, current=DeliveryState(exc.state), allowed=(DeliveryState.PARKED,)
                ) from None
            delivery = delivery_repository.to_delivery(job)
            transaction.record(call, str(delivery_id), delivery.approval_id)
            transaction.count(DELIVERIES_DISMISSED, delivery.topic)
            if delivery.topic is DeliveryTopic.RESOLVE:
                await repository.count_dismissed_resolve(transaction, delivery.approval_id)
        _log.info(
            "delivery_dismissed",
            actor=call.actor,
            delivery_id=delivery_id,
            topic=job.topic,
            approval_id=delivery.approval_id,
            incident_id=delivery.incident_id,
        )
        return delivery


async def _lock(transaction: Transaction, delivery_id: int) -> JobRecord:
    job = await dead_letters.get_by_id_for_update(transaction.connection, delivery_id)
    if job is None:
        raise DeliveryNotFoundError
    return job
