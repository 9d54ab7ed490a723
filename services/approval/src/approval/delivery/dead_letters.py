"""Deliveries re-queued or dismissed by an operator."""

from collections.abc import Sequence

import structlog

from approval.counters import DELIVERIES_DISMISSED
from approval.delivery import repository, resolve_repository
from approval.delivery.errors import DeliveryDoneError, DeliveryNotFoundError, DeliveryNotParkedError
from approval.delivery.model import Delivery, DeliveryState, DeliveryTopic
from servicekit.audit.model import Call
from servicekit.outbox import dead_letters
from servicekit.outbox.dead_letters import JobEndedError, JobNotParkedError
from servicekit.outbox.jobs import JobRecord, JobState
from servicekit.outbox.transaction import Transaction, Transactions

_log = structlog.get_logger()


class DeadLetterUseCases:
    """Deliveries that are re-queued or dismissed, over one database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

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
                transaction.record(call, str(delivery_id), repository.to_delivery(job).approval_id)
        self._transactions.outbox.wake()
        if job.state is JobState.PARKED:
            _log.info("deliveries_requeued", actor=call.actor, deliveries=1)
        return repository.to_delivery(requeued)

    async def retry_parked(
        self, topics: Sequence[DeliveryTopic], *, limit: int, call: Call
    ) -> Sequence[Delivery]:
        """Re-queue the longest PARKED deliveries of these topics (none: of every topic), at most `limit`, due now."""
        async with self._transactions.begin() as transaction:
            requeued = await repository.requeue_parked(
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
                return repository.to_delivery(job)
            try:
                job = await dead_letters.dismiss(transaction.connection, job, actor=call.actor, reason=reason)
            except JobNotParkedError as exc:
                raise DeliveryNotParkedError(
                    delivery_id, current=DeliveryState(exc.state), allowed=(DeliveryState.PARKED,)
                ) from None
            delivery = repository.to_delivery(job)
            transaction.record(call, str(delivery_id), delivery.approval_id)
            transaction.count(DELIVERIES_DISMISSED, delivery.topic)
            if delivery.topic is DeliveryTopic.RESOLVE:
                await resolve_repository.count_dismissed_resolve(transaction, delivery.approval_id)
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
