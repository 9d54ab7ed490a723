"""The contract's enums and the model's have the same values."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from approval import model
from approval.delivery.model import DeliveryState, ResolutionType
from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from awoooi.flywheel.v1 import flywheel_stats_pb2
from awoooi.incident.v1 import incident_pb2

# The wire's enum is an EnumTypeWrapper, which its stubs call a class.
Pair = tuple[Any, str, type[StrEnum]]

COMPLETE: Mapping[str, Pair] = {
    "Approval.State": (approval_pb2.Approval.State, "STATE_", model.State),
    "Risk": (approval_pb2.Risk, "RISK_", model.Risk),
    "Operation.Kind": (approval_pb2.Operation.Kind, "KIND_", model.OperationKind),
    "Decision.Kind": (approval_pb2.Decision.Kind, "KIND_", model.DecisionKind),
    "Delivery.State": (approval_pb2.Delivery.State, "STATE_", DeliveryState),
    "ListRequest.Order": (pb.ListRequest.Order, "ORDER_", model.Order),
    "ExecutionOutcome": (
        flywheel_stats_pb2.ExecutionOutcome,
        "EXECUTION_OUTCOME_",
        model.ExecutionOutcome,
    ),
}


@pytest.mark.parametrize(("wire", "prefix", "members"), COMPLETE.values(), ids=COMPLETE)
def test_an_enum_of_the_model_has_the_values_of_the_contract(
    wire: Any, prefix: str, members: type[StrEnum]
) -> None:
    on_the_wire = {name.removeprefix(prefix) for name in wire.keys() if wire.Value(name) != 0}  # noqa: SIM118
    assert on_the_wire == {member.value for member in members}


@pytest.mark.parametrize("kind", ResolutionType)
def test_the_incident_service_knows_every_resolution_type(kind: ResolutionType) -> None:
    assert incident_pb2.ResolutionType.Value(f"RESOLUTION_TYPE_{kind}") > 0
