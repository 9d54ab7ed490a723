"""Deliveries on the wire."""

import pytest

from approval.delivery.errors import DeliveryNotFoundError
from approval.delivery.mapping import delivery_id, delivery_states
from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb


@pytest.mark.parametrize("state", approval_pb2.Delivery.State.values()[1:])
def test_deliveries_are_filtered_by_every_state_of_the_contract(
    state: approval_pb2.Delivery.State.ValueType,
) -> None:
    (found,) = delivery_states(pb.ListDeliveriesRequest(states=[state]))
    assert approval_pb2.Delivery.State.Name(state) == f"STATE_{found}"


@pytest.mark.parametrize("text", ["", "-1", "1.0", "one", "²", "٣", "9" * 19])
def test_a_text_that_is_no_id_of_a_delivery_is_not_found(text: str) -> None:
    with pytest.raises(DeliveryNotFoundError):
        delivery_id(pb.RetryDeliveryRequest(delivery_id=text))


def test_an_id_of_a_delivery_is_its_number() -> None:
    assert delivery_id(pb.RetryDeliveryRequest(delivery_id="9" * 18)) == int("9" * 18)
