"""A request is bounded in its counts before anything is built for each element."""

from collections.abc import Iterator
from typing import Any, cast

import protovalidate
import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from awoooi.approval.v1 import approval_service_pb2
from awoooi.flywheel.v1 import flywheel_stats_pb2
from awoooi.incident.v1 import incident_pb2, incident_service_pb2
from buf.validate import validate_pb2
from servicekit.rpc.interceptors.element_counts import Container, containers, excess_elements
from servicekit.rpc.interceptors.validation import check
from servicekit.rpc.status_details import MAX_VIOLATIONS, FieldViolation, RpcError, invalid_argument_message

MESSAGE_BYTES = 1 << 20
CONTRACTS = (approval_service_pb2, flywheel_stats_pb2, incident_service_pb2)


def methods() -> Iterator[MethodDescriptor]:
    for contract in CONTRACTS:
        for service in contract.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def nested_containers(
    descriptor: Descriptor, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Container]]:
    """Each container of a message and of the messages in it, with the fields that lead to it."""
    here = {container.name: container for container in containers(descriptor)}
    for container in here.values():
        yield path, container
    for field in descriptor.fields:
        below = here[field.name].element if field.name in here else field.message_type
        if below is not None and len(path) < 5:
            yield from nested_containers(below, (*path, field.name))


CASES = [
    pytest.param(
        method.input_type, path, container, id=f"{method.full_name}:{'.'.join((*path, container.name))}"
    )
    for method in methods()
    for path, container in nested_containers(method.input_type)
]


def filled(message: Message, container: Container, elements: int) -> None:
    """Add elements that no rule of a contract would accept."""
    field: Any = getattr(message, container.name)
    if container.is_map:
        for number in range(elements):
            field[f"\n{number}"] = "\n"
    elif container.element is not None:
        field.extend([GetMessageClass(container.element)()] * elements)
    elif message.DESCRIPTOR.fields_by_name[container.name].enum_type is not None:
        field.extend([99] * elements)
    else:
        field.extend(["\n"] * elements)


@pytest.mark.parametrize(("request_type", "path", "container"), CASES)
def test_excess_elements_are_refused_before_any_of_them_is_validated(
    request_type: Descriptor, path: tuple[str, ...], container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = GetMessageClass(request_type)()
    message: Any = request
    for name in path:
        step = getattr(message, name)
        message = step.add() if hasattr(step, "add") else step
    filled(message, container, 60_000)
    assert request.ByteSize() <= MESSAGE_BYTES

    def validate(_message: object) -> None:
        raise AssertionError("validated element by element")

    monkeypatch.setattr(protovalidate, "validate", validate)
    with pytest.raises(RpcError) as caught:
        check(request)
    (violation,) = caught.value.status.field_violations
    assert violation.field.rpartition(".")[2].endswith(container.name)
    assert violation.description == f"must have at most {container.limit} elements"


@pytest.mark.parametrize(("request_type", "path", "container"), CASES)
def test_each_container_of_a_request_has_a_limit_in_its_contract(
    request_type: Descriptor, path: tuple[str, ...], container: Container
) -> None:
    descriptor = request_type
    for name in path:
        below = descriptor.fields_by_name[name].message_type
        assert below is not None
        descriptor = below
    rules_of_fields: Any = cast(Any, validate_pb2).field  # the generated module has no type stub
    rules = descriptor.fields_by_name[container.name].GetOptions().Extensions[rules_of_fields]
    assert rules.map.HasField("max_pairs") or rules.repeated.HasField("max_items")


def test_elements_up_to_the_limit_are_accepted() -> None:
    request = incident_service_pb2.ListRequest(states=[incident_pb2.Incident.STATE_OPEN] * 16)
    check(request)
    request.states.append(incident_pb2.Incident.STATE_OPEN)
    assert excess_elements(request) == [FieldViolation("states", "must have at most 16 elements")]


def test_violations_within_the_limits_are_cut_to_those_a_status_shows() -> None:
    labels = {f"\n{number}": "\0" for number in range(64)}
    unknown: Any = [99] * 16
    with pytest.raises(RpcError) as caught:
        check(incident_service_pb2.ListRequest(labels=labels, states=unknown))
    assert len(caught.value.status.field_violations) == MAX_VIOLATIONS


def test_the_message_of_many_violations_is_cut() -> None:
    violations = [FieldViolation(f"items[{number}].incident_id", "must be set") for number in range(1000)]
    message = invalid_argument_message(violations)
    assert len(message.encode()) <= 512
    assert message.endswith("; and others")
