"""The wire's enums and the model's have each other's values."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from approval import model
from approval.lifecycle import mapping as proto_mapping
from approval.stats import mapping as stats_mapping
from approval.stats.repository import ApprovalFigures
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
    "Delivery.State": (approval_pb2.Delivery.State, "STATE_", model.DeliveryState),
    "ListRequest.Order": (pb.ListRequest.Order, "ORDER_", model.Order),
    "ExecutionOutcome": (
        flywheel_stats_pb2.ExecutionOutcome,
        "EXECUTION_OUTCOME_",
        model.ExecutionOutcome,
    ),
}


@pytest.mark.parametrize(("wire", "prefix", "members"), COMPLETE.values(), ids=COMPLETE)
def test_every_value_of_an_enum_has_its_counterpart(wire: Any, prefix: str, members: type[StrEnum]) -> None:
    on_the_wire = {name.removeprefix(prefix) for name in wire.keys() if wire.Value(name) != 0}  # noqa: SIM118
    assert on_the_wire == {member.value for member in members}


@pytest.mark.parametrize("kind", model.ResolutionType)
def test_every_way_this_service_resolves_is_one_the_incident_service_knows(
    kind: model.ResolutionType,
) -> None:
    assert incident_pb2.ResolutionType.Value(f"RESOLUTION_TYPE_{kind}") > 0


@pytest.mark.parametrize("state", approval_pb2.Delivery.State.values()[1:])
def test_deliveries_are_filtered_by_every_state_of_the_wire(
    state: approval_pb2.Delivery.State.ValueType,
) -> None:
    (found,) = proto_mapping.delivery_states(pb.ListDeliveriesRequest(states=[state]))
    assert approval_pb2.Delivery.State.Name(state) == f"STATE_{found}"


def test_an_order_that_is_not_given_is_newest_first() -> None:
    assert proto_mapping.approval_filter(pb.ListRequest()).order is model.Order.CREATE_TIME_DESC


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (1000, 1000), (10**9, 1000)])
def test_a_page_has_a_sane_size_whatever_is_asked(asked: int, given: int) -> None:
    assert proto_mapping.page_size(asked) == given


@pytest.mark.parametrize("samples", range(12))
def test_the_success_rate_is_withheld_below_the_smallest_sample(samples: int) -> None:
    figures = ApprovalFigures(
        read_time=proto_mapping._EPOCH,
        samples=samples,
        successes=samples // 2,
        executions={},
        noop_resolutions=0,
        approvals={},
        approval_oldest_pending_seconds=0.0,
        deliveries={},
        delivery_oldest_pending_seconds=0.0,
        details=None,
    )
    executions = stats_mapping.figures_to_proto(figures, min_samples=10).executions
    assert (executions.samples, executions.successes) == (samples, samples // 2)
    assert executions.min_samples == 10
    assert executions.HasField("success_rate") is (samples >= 10)
    if samples >= 10:
        assert executions.success_rate == pytest.approx((samples // 2) / samples)
