"""Deliveries listed for an operator."""

from collections.abc import Sequence
from dataclasses import dataclass

from approval.delivery import repository
from approval.delivery.model import Delivery, DeliveryState, DeliveryTopic
from servicekit.outbox.transaction import Transactions


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """A page of deliveries; `next_before` is the id before which the next page starts, None on the last."""

    deliveries: Sequence[Delivery]
    next_before: int | None


class DeliveryUseCases:
    """Deliveries over one database."""

    def __init__(self, reads: Transactions) -> None:
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
        # Of one snapshot: what changes meanwhile does not move where the page ends.
        async with self._reads.snapshot() as connection:
            found = await repository.list_deliveries(
                connection,
                topics=topics,
                states=states,
                approval_id=approval_id,
                before=before,
                limit=page_size + 1,
            )
            page = found[:page_size]
            if len(found) > page_size:
                return DeliveryPage(page, page[-1].delivery_id)
            if approval_id:
                return DeliveryPage(page, None)
            return DeliveryPage(page, await repository.examined_to(connection, states=states, before=before))
