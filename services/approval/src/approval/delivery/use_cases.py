"""The use cases of deliveries, for an operator."""

from collections.abc import Sequence
from dataclasses import dataclass

from approval.delivery import repository
from approval.delivery.model import Delivery, DeliveryState
from servicekit.outbox.transaction import Transactions


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """A page of deliveries; `next_before` is the id before which the next page starts, None on the last."""

    deliveries: Sequence[Delivery]
    next_before: int | None


class DeliveryUseCases:
    """Deliveries over one database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def list(
        self, *, states: Sequence[DeliveryState], approval_id: str, before: int | None, page_size: int
    ) -> DeliveryPage:
        """Return the page of deliveries older than the id `before` (None: the newest)."""
        async with self._transactions.statement() as connection:
            found = await repository.list_deliveries(
                connection, states=states, approval_id=approval_id, before=before, limit=page_size + 1
            )
        page = found[:page_size]
        return DeliveryPage(page, page[-1].delivery_id if len(found) > page_size else None)

    async def retry(self, delivery_id: int) -> Delivery:
        """Re-queue a PARKED (dead-lettered) delivery, due now; a PENDING one is returned as it is.

        Raises DeliveryNotFoundError, DeliveryDoneError.
        """
        async with self._transactions.begin() as transaction:
            delivery = await repository.requeue(transaction.connection, delivery_id)
        self._transactions.outbox.wake()
        return delivery
