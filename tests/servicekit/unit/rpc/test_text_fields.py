"""Which texts of a request are normalized, and that every text in the contracts has a rule."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as approvals_pb
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from buf.validate import validate_pb2
from servicekit.rpc.interceptors.text_fields import normalize
from servicekit.rpc.interceptors.validation import check
from servicekit.rpc.status_details import RpcError

_FIELD_RULES: Any = cast(Any, validate_pb2).field
SERVICES = (
    pb.DESCRIPTOR.services_by_name["IncidentService"],
    approvals_pb.DESCRIPTOR.services_by_name["ApprovalService"],
)
# What the server gave out itself, and takes back unchanged.
TOKENS = ("page_token", "resume_token")


def create(**fields: Any) -> pb.CreateRequest:
    valid: dict[str, Any] = {"title": "x", "severity": incident_pb2.SEVERITY_LOW}
    return pb.CreateRequest(**(valid | fields))


def test_each_text_of_a_request_is_normalized_by_its_rule() -> None:
    request = create(
        title=" disk\nfull\t",
        description="a\r\nb\tc\x1b",
        fingerprint=" caf\u0065\u0301  x",
        source="\u00a0alertmanager ",
        labels={" te\u0301am ": "a\r\nb", "plain": "x"},
    )
    check(request)
    assert request == create(
        title="disk full",
        description="a\nb\tc ",
        fingerprint="caf\u00e9 x",
        source="alertmanager",
        labels={"t\u00e9am": "a\nb", "plain": "x"},
    )


def test_an_action_is_normalized_before_it_is_parsed() -> None:
    request = approvals_pb.ProposeRequest(
        incident_id="INC-20260507-99ADF2",
        action="\nNO_ACTION:\n\nRESTART\u3000deployment/web -n shop\n",
        risk=approval_pb2.RISK_LOW,
        rationale="1. look\r\n2. wait\r\n",
    )
    check(request)
    assert request.action == "NO_ACTION: RESTART deployment/web -n shop"
    assert request.rationale == "1. look\n2. wait\n"


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({"team": "a", "team ": "b"}, id="a space behind"),
        pytest.param({"a b": "1", "a  b": "1"}, id="two spaces"),
        pytest.param({"caf\u00e9": "1", "cafe\u0301": "1"}, id="NFC and NFD"),
    ],
)
def test_keys_that_look_the_same_are_refused_together(labels: dict[str, str]) -> None:
    for message, field in (
        (create(labels=labels), "labels"),
        (pb.ListRequest(labels=labels), "labels"),
        (pb.WatchRequest(labels=labels), "labels"),
        (pb.AddEventRequest(attributes=labels), "attributes"),
    ):
        with pytest.raises(RpcError) as caught:
            check(message)
        [violation] = caught.value.status.field_violations
        assert violation.field == field
        assert (
            violation.description
            == "must not have keys that differ only in spaces or in Unicode normalization"
        )


def test_a_usual_request_is_left_as_it_is() -> None:
    request = create(title="disk full", description="a\n\tb", labels={"team": "shop"}, fingerprint="disk/1")
    before = request.SerializeToString(deterministic=True)
    assert not normalize(request)
    assert request.SerializeToString(deterministic=True) == before


def test_items_of_a_batch_are_normalized_one_by_one() -> None:
    item = pb.BatchResolveRequest.Item(
        incident_id="INC-20260507-99ADF2",
        resolution_type=incident_pb2.RESOLUTION_TYPE_HUMAN,
        note="a\r\nb\x1b",
    )
    check(item)
    assert item.note == "a\nb "


def _texts(message: Descriptor, path: str) -> Iterator[tuple[str, Any]]:
    for field in message.fields:
        rules = field.GetOptions().Extensions[_FIELD_RULES]
        name = f"{path}.{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield f"{name} keys", rules.map.keys.string
            yield f"{name} values", rules.map.values.string
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield name, rules.string
        elif field.message_type is not None and field.message_type.full_name.startswith("awoooi."):
            yield from _texts(field.message_type, name)


TEXTS = {
    name: rules
    for service in SERVICES
    for method in service.methods
    for name, rules in _texts(method.input_type, method.input_type.full_name)
    if not name.endswith(TOKENS)
}


@pytest.mark.parametrize("rules", TEXTS.values(), ids=TEXTS)
def test_every_text_of_a_request_has_a_form(rules: Any) -> None:
    forms = {option.name for option, _ in rules.ListFields() if option.is_extension}
    assert rules.pattern or forms & {"line", "key", "no_nul"}
