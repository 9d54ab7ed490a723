"""Errors of deliveries."""

from approval.errors import ApprovalError


class DeliveryNotFoundError(ApprovalError):
    """There is no delivery with this id."""


class DeliveryDoneError(ApprovalError):
    """The delivery was acknowledged already."""
