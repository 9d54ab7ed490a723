"""Approvals on the wire."""

from approval.lifecycle.mapping import approval_filter
from approval.model import Order
from awoooi.approval.v1 import approval_service_pb2 as pb


def test_the_default_order_is_newest_first() -> None:
    assert approval_filter(pb.ListRequest()).order is Order.CREATE_TIME_DESC
