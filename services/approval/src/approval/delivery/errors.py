"""Errors of deliveries."""

from collections.abc import Sequence

from approval.delivery.model import DeliveryState
from approval.errors import ApprovalError


class DeliveryNotFoundError(ApprovalError):
    """There is no delivery with this id."""


class DeliveryDoneError(ApprovalError):
    """The delivery has ended: it was acknowledged or dismissed."""

    def __init__(self, delivery_id: int, *, current: DeliveryState, allowed: Sequence[DeliveryState]) -> None:
        super().__init__()
        self.delivery_id = delivery_id
        self.current = current
        self.allowed = allowed


class DeliveryNotParkedError(ApprovalError):
    """Only a PARKED delivery can be dismissed."""

    def __init__(self, delivery_id: int, *, current: DeliveryState, allowed: Sequence[DeliveryState]) -> None:
        super().__init__()
        self.delivery_id = delivery_id
        self.current = current
        self.allowed = allowed
