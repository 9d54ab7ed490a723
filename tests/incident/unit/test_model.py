"""The rules of incidents, without a database."""

import dataclasses
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.model import (
    ALLOWED_FROM,
    Effect,
    EventType,
    NewIncident,
    Order,
    ResolutionType,
    Severity,
    State,
    Transition,
    new_incident_id,
)


@pytest.mark.parametrize(
    ("transition", "allowed"),
    [(Transition.START_INVESTIGATION, {State.OPEN}), (Transition.RESOLVE, {State.OPEN, State.INVESTIGATING})],
)
def test_from_which_states_a_transition_may_start(transition: Transition, allowed: set[State]) -> None:
    assert set(ALLOWED_FROM[transition]) == allowed


def test_every_transition_has_its_states() -> None:
    assert set(ALLOWED_FROM) == set(Transition)


@pytest.mark.parametrize(
    ("members", "numbers", "prefix"),
    [
        (State, incident_pb2.Incident.State, "STATE_"),
        (Severity, incident_pb2.Severity, "SEVERITY_"),
        (ResolutionType, incident_pb2.ResolutionType, "RESOLUTION_TYPE_"),
        (EventType, incident_pb2.IncidentEvent.Type, "TYPE_"),
        (Order, pb.ListRequest.Order, "ORDER_"),
    ],
    ids=["State", "Severity", "ResolutionType", "EventType", "Order"],
)
def test_the_model_knows_every_value_of_the_contract(members: Any, numbers: Any, prefix: str) -> None:
    names = {name.removeprefix(prefix) for name, number in numbers.items() if number}
    assert {member.value for member in members} == names


def test_every_effect_is_one_of_the_contracts_and_has_a_topic_of_its_own() -> None:
    for effect in Effect:
        assert incident_pb2.SideEffect.Effect.Value(f"EFFECT_{effect}")
    assert len({effect.topic for effect in Effect}) == len(Effect)


@pytest.mark.parametrize(("attempt", "digits"), [(0, 6), (1, 8), (2, 10), (3, 12), (4, 12), (99, 12)])
def test_an_id_widens_with_each_collision(attempt: int, digits: int) -> None:
    now = datetime(2026, 5, 7, 23, 59, tzinfo=UTC)
    assert re.fullmatch(rf"INC-20260507-[0-9A-F]{{{digits}}}", new_incident_id(attempt=attempt, now=now))


def test_ids_differ() -> None:
    assert len({new_incident_id(attempt=3) for _ in range(1000)}) == 1000


def test_an_id_has_todays_date_in_utc() -> None:
    before = datetime.now(UTC)
    day = new_incident_id(attempt=0).split("-")[1]
    assert day in {before.strftime("%Y%m%d"), datetime.now(UTC).strftime("%Y%m%d")}


CONTENT = NewIncident(
    title="t",
    severity=Severity.LOW,
    description="d",
    fingerprint="f",
    labels={"a": "1", "b": "2"},
    source="s",
)


@pytest.mark.parametrize(
    "change",
    [
        {"title": "T"},
        {"severity": Severity.HIGH},
        {"description": ""},
        {"fingerprint": ""},
        {"labels": {"a": "1"}},
        {"labels": {"a": "2", "b": "1"}},
        {"labels": {"a": "1", "b": "2", "c": ""}},
        {"source": ""},
        {"title": "", "source": "t"},
    ],
    ids=str,
)
def test_other_content_has_another_hash(change: dict[str, Any]) -> None:
    assert dataclasses.replace(CONTENT, **change).content_hash() != CONTENT.content_hash()


def test_the_order_of_labels_does_not_matter() -> None:
    other = dataclasses.replace(CONTENT, labels={"b": "2", "a": "1"})
    assert other.content_hash() == CONTENT.content_hash()


def test_text_does_not_move_between_fields_unnoticed() -> None:
    one = dataclasses.replace(CONTENT, title='a", "LOW", "b', description="")
    two = dataclasses.replace(CONTENT, title="a", description="b")
    assert one.content_hash() != two.content_hash()


def test_the_hash_is_the_same_in_every_process() -> None:
    """It is stored: were it to change, a retry over a deploy would look like other content."""
    simple = NewIncident(title="t", severity=Severity.LOW)
    assert simple.content_hash() == "fd3e78f3733c963ab15e4ff901993cd5fe4b86ccec12ec8f18b91e6e490e8134"
