"""Enums by their names, and times that may be unset."""

from datetime import UTC, datetime
from enum import StrEnum

import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.rpc.mapping import WireEnum, optional_time, optional_timestamp
from servicekit.rpc.status_details import RpcError


class State(StrEnum):
    OPEN = "OPEN"
    RESOLVED = "RESOLVED"


class Foreign(StrEnum):
    ELSEWHERE = "ELSEWHERE"


STATES = WireEnum(State, "STATE", incident_pb2.Incident.State.Value)


def test_a_member_and_its_number_are_mapped_both_ways() -> None:
    assert STATES.to_wire(State.RESOLVED) == incident_pb2.Incident.STATE_RESOLVED
    assert STATES.from_wire(incident_pb2.Incident.STATE_OPEN) is State.OPEN
    assert STATES.all_from_wire([STATES.to_wire(each) for each in State]) == list(State)


def test_an_unspecified_or_unknown_number_has_the_default() -> None:
    assert STATES.get(0, State.OPEN) is State.OPEN
    assert STATES.get(99, State.OPEN) is State.OPEN
    assert STATES.get(incident_pb2.Incident.STATE_RESOLVED, State.OPEN) is State.RESOLVED


def test_a_member_that_the_contract_does_not_have_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="STATE_ELSEWHERE"):
        WireEnum(Foreign, "STATE", incident_pb2.Incident.State.Value)


def test_an_optional_time_comes_back_or_is_unset() -> None:
    time = datetime(2026, 5, 7, 10, 0, 0, 5, tzinfo=UTC)
    request = pb.AddEventRequest(event_time=optional_timestamp(time))
    assert optional_time(request, "event_time") == time
    assert optional_timestamp(None) is None
    assert optional_time(pb.AddEventRequest(), "event_time") is None


def test_a_time_that_is_none_names_its_field() -> None:
    request = pb.AddEventRequest()
    request.event_time.nanos = -1
    with pytest.raises(RpcError) as caught:
        optional_time(request, "event_time")
    (violation,) = caught.value.status.field_violations
    assert violation.field == "event_time"
