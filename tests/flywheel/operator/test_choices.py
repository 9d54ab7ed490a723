"""The values of flags are those of the contract."""

from enum import StrEnum
from typing import Any

import pytest

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as approval_service
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as incident_service
from flywheel.operator import choices


@pytest.mark.parametrize(
    ("choice", "enum", "prefix"),
    [
        (choices.Severity, incident_pb2.Severity, "SEVERITY_"),
        (choices.IncidentState, incident_pb2.Incident.State, "STATE_"),
        (choices.IncidentOrder, incident_service.ListRequest.Order, "ORDER_"),
        (choices.ResolutionType, incident_pb2.ResolutionType, "RESOLUTION_TYPE_"),
        (choices.EventType, incident_pb2.IncidentEvent.Type, "TYPE_"),
        (choices.Effect, incident_pb2.SideEffect.Effect, "EFFECT_"),
        (choices.EffectState, incident_pb2.SideEffect.State, "STATE_"),
        (choices.Risk, approval_pb2.Risk, "RISK_"),
        (choices.ApprovalState, approval_pb2.Approval.State, "STATE_"),
        (choices.ApprovalOrder, approval_service.ListRequest.Order, "ORDER_"),
        (choices.OperationKind, approval_pb2.Operation.Kind, "KIND_"),
        (choices.Recovery, approval_pb2.Recovery, "RECOVERY_"),
        (choices.DeliveryState, approval_pb2.Delivery.State, "STATE_"),
        (choices.DeliveryTopic, approval_pb2.Delivery.Topic, "TOPIC_"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_flag_takes_every_value_of_its_enum(choice: type[StrEnum], enum: Any, prefix: str) -> None:
    named = {name.removeprefix(prefix) for name, _ in enum.items()}
    assert {each.name for each in choice} == named - {"UNSPECIFIED"}
