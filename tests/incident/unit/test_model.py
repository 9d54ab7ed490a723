"""The state machine, and the enums that the model shares with the contract."""

from typing import Any

import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.effects.model import SideEffectState
from incident.lifecycle.model import Order
from incident.model import ALLOWED_FROM, Effect, EventType, ResolutionType, Severity, State, Transition


@pytest.mark.parametrize(
    ("transition", "allowed"),
    [
        (Transition.START_INVESTIGATION, {State.OPEN}),
        (Transition.RESOLVE, {State.OPEN, State.INVESTIGATING}),
        (Transition.REOPEN, {State.RESOLVED}),
    ],
)
def test_the_source_states_of_each_transition(transition: Transition, allowed: set[State]) -> None:
    assert set(ALLOWED_FROM[transition]) == allowed


def test_every_transition_has_source_states() -> None:
    assert set(ALLOWED_FROM) == set(Transition)


@pytest.mark.parametrize(
    ("members", "numbers", "prefix"),
    [
        (State, incident_pb2.Incident.State, "STATE_"),
        (Severity, incident_pb2.Severity, "SEVERITY_"),
        (ResolutionType, incident_pb2.ResolutionType, "RESOLUTION_TYPE_"),
        (EventType, incident_pb2.IncidentEvent.Type, "TYPE_"),
        (Effect, incident_pb2.SideEffect.Effect, "EFFECT_"),
        (SideEffectState, incident_pb2.SideEffect.State, "STATE_"),
        (Order, pb.ListRequest.Order, "ORDER_"),
    ],
    ids=["State", "Severity", "ResolutionType", "EventType", "Effect", "SideEffectState", "Order"],
)
def test_enums_have_the_values_of_the_contract(members: Any, numbers: Any, prefix: str) -> None:
    names = {name.removeprefix(prefix) for name, number in numbers.items() if number}
    assert {member.value for member in members} == names


def test_every_effect_has_a_topic_of_its_own() -> None:
    assert len({effect.topic for effect in Effect}) == len(Effect)
