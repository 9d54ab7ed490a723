"""The clients and the contract say the same: methods, fields, enum values, safe retries."""

import inspect
import typing
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import UnionType
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as approval_service
from awoooi.client import approvals, incidents, stats, values
from awoooi.client.call import Call, Listing, Stream
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_service
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as incident_service

SERVICES: Mapping[type[Any], ServiceDescriptor] = {
    incidents.IncidentMethods: incident_service.DESCRIPTOR.services_by_name["IncidentService"],
    approvals.ApprovalMethods: approval_service.DESCRIPTOR.services_by_name["ApprovalService"],
    stats.StatsMethods: stats_service.DESCRIPTOR.services_by_name["FlywheelStatsService"],
}
OPTIONS = "options"
# Of the client, not of the request.
EXTRA = {"watch": {"heartbeats"}}
# An argument for every required field.
REQUIRED: Mapping[str, Any] = {
    "incident_id": "INC-20260507-99ADF2",
    "approval_id": "APR-20260507-99ADF2",
    "delivery_id": "1",
    "title": "disk full",
    "severity": "HIGH",
    "resolution_type": "HUMAN",
    "items": [{"incident_id": "INC-20260507-99ADF2"}],
    "reason": "again",
    "type": "NOTE",
    "effect": "WEBHOOK",
    "query": "disk",
    "action": "NO_ACTION",
    "risk": "LOW",
}


def snake(name: str) -> str:
    """A name in CapWords as a method is called."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")


METHODS = [
    pytest.param(described, method, id=f"{service.name}.{method.name}")
    for described, service in SERVICES.items()
    for method in service.methods
]


def describe(described: type[Any], method: MethodDescriptor, **fields: Any) -> Any:
    """What the client's method asks for with all that it requires."""
    function = getattr(described, snake(method.name))
    required = {
        name: REQUIRED[name]
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and name not in ("self", OPTIONS)
    }
    return function(None, **(required | fields))


@pytest.mark.parametrize("described", list(SERVICES))
def test_no_method_is_there_that_the_contract_does_not_have(described: type[Any]) -> None:
    names = {name for name in dir(described) if not name.startswith("_")}
    assert names == {snake(method.name) for method in SERVICES[described].methods}


@pytest.mark.parametrize(("described", "method"), METHODS)
def test_every_rpc_is_a_method_that_takes_all_its_fields_and_sends_its_request(
    described: type[Any], method: MethodDescriptor
) -> None:
    function = getattr(described, snake(method.name))
    parameters = set(inspect.signature(function).parameters) - {"self", OPTIONS}
    fields = {field.name for field in method.input_type.fields}
    assert parameters - EXTRA.get(snake(method.name), set()) == fields
    assert function.__doc__
    call = describe(described, method)
    assert call.method == f"{method.containing_service.full_name}/{method.name}"
    assert call.request.DESCRIPTOR is method.input_type
    kind = Stream if method.server_streaming else Listing if "page_token" in fields else Call
    assert type(call) is kind


@pytest.mark.parametrize(("described", "method"), METHODS)
def test_every_field_that_is_given_arrives_in_the_request(
    described: type[Any], method: MethodDescriptor
) -> None:
    for field in method.input_type.fields:
        request = describe(described, method, **{field.name: example(field)}).request
        assert field in [set_field for set_field, _ in request.ListFields()], field.name


def example(field: FieldDescriptor) -> Any:
    """An argument for a field that is not its default."""
    if field.name in REQUIRED:
        return REQUIRED[field.name]
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return {"team": "payments"}
    if message is not None and field.is_repeated:
        return [message_factory.GetMessageClass(message)()]
    if message is not None:
        return timedelta(minutes=1) if message.name == "Duration" else datetime(2026, 5, 7, tzinfo=UTC)
    one: Any = {
        FieldDescriptor.TYPE_STRING: "text",
        FieldDescriptor.TYPE_BOOL: True,
        FieldDescriptor.TYPE_INT32: 3,
        FieldDescriptor.TYPE_DOUBLE: 0.5,
        FieldDescriptor.TYPE_ENUM: 1,
    }[field.type]
    return [one] if field.is_repeated else one


@pytest.mark.parametrize(("described", "method"), METHODS)
def test_a_response_is_parsed_into_the_message_of_the_contract(
    described: type[Any], method: MethodDescriptor
) -> None:
    call = describe(described, method)
    response = call.read(b"")
    if isinstance(response, Message) and response.DESCRIPTOR is method.output_type:
        return
    # Where a response has one field, the method returns that.
    [only] = method.output_type.fields
    if only.is_repeated:
        assert list(response) == []
    elif only.message_type is None:
        assert response == only.default_value
    else:
        assert response.DESCRIPTOR is only.message_type


@pytest.mark.parametrize(("described", "method"), METHODS)
def test_retries_are_made_safe(described: type[Any], method: MethodDescriptor) -> None:
    call, again = describe(described, method), describe(described, method)
    for key in ("request_id", "event_id"):
        if key in method.input_type.fields_by_name:
            assert getattr(call.request, key)
            assert getattr(call.request, key) != getattr(again.request, key), "one for each call"
            assert getattr(describe(described, method, **{key: "mine"}).request, key) == "mine"
    if isinstance(call, Call):
        assert call.idempotent


def test_resuming_an_indeterminate_execution_is_the_one_call_that_is_not_idempotent() -> None:
    described = approvals.ApprovalMethods
    method = SERVICES[described].methods_by_name["Execute"]
    assert not describe(described, method, resume_indeterminate=True).idempotent


ENUMS: Mapping[Any, EnumDescriptor] = {
    values.Severity: incident_pb2.Severity.DESCRIPTOR,
    values.IncidentState: incident_pb2.Incident.State.DESCRIPTOR,
    values.IncidentOrder: incident_service.ListRequest.Order.DESCRIPTOR,
    values.ResolutionType: incident_pb2.ResolutionType.DESCRIPTOR,
    values.EventType: incident_pb2.IncidentEvent.Type.DESCRIPTOR,
    values.Effect: incident_pb2.SideEffect.Effect.DESCRIPTOR,
    values.SideEffectState: incident_pb2.SideEffect.State.DESCRIPTOR,
    values.Risk: approval_pb2.Risk.DESCRIPTOR,
    values.ApprovalState: approval_pb2.Approval.State.DESCRIPTOR,
    values.Recovery: approval_pb2.Recovery.DESCRIPTOR,
    values.ApprovalOrder: approval_service.ListRequest.Order.DESCRIPTOR,
    values.OperationKind: approval_pb2.Operation.Kind.DESCRIPTOR,
    values.DeliveryState: approval_pb2.Delivery.State.DESCRIPTOR,
    values.DeliveryTopic: approval_pb2.Delivery.Topic.DESCRIPTOR,
    values.View: stats_service.GetFlywheelStatsRequest.View.DESCRIPTOR,
}


@pytest.mark.parametrize("alias", list(ENUMS), ids=[enum.full_name for enum in ENUMS.values()])
def test_the_names_of_an_enum_are_those_of_the_contract(alias: UnionType) -> None:
    enum = ENUMS[alias]
    prefix = f"{snake(enum.name).upper()}_"
    literal = next(each for each in typing.get_args(alias) if each is not int)
    assert list(typing.get_args(literal)) == [value.name.removeprefix(prefix) for value in enum.values[1:]]
    assert all(value.name.startswith(prefix) for value in enum.values)


def test_every_enum_of_a_request_has_its_names_here() -> None:
    used = {
        field.enum_type
        for service in SERVICES.values()
        for method in service.methods
        for field in method.input_type.fields
        if field.enum_type is not None
    }
    assert used == set(ENUMS.values())


def test_a_value_may_be_given_by_name_or_by_number() -> None:
    enum = incident_pb2.Severity
    assert values.enum_value(enum, "SEVERITY_", "HIGH") == incident_pb2.SEVERITY_HIGH
    assert values.enum_value(enum, "SEVERITY_", incident_pb2.SEVERITY_LOW) == incident_pb2.SEVERITY_LOW
    with pytest.raises(ValueError, match="SEVERITY_WORST"):
        values.enum_value(enum, "SEVERITY_", "WORST")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        values.timestamp(datetime(2026, 5, 7))  # noqa: DTZ001 - what is tested
    noon = datetime(2026, 5, 7, 12, tzinfo=timezone(timedelta(hours=2)))
    converted = values.timestamp(noon)
    assert converted is not None
    assert converted.ToDatetime(tzinfo=UTC) == noon
    assert values.timestamp(converted) is converted
