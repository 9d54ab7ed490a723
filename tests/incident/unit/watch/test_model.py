"""The states around an event and the criteria of a watcher, without a database."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from incident.model import EventType, Severity, State
from incident.watch.changes import WatchFilter
from incident.watch.model import states_around
from tests.incident.unit.watch.changes import change, incident


@pytest.mark.parametrize(
    ("event", "latest", "around"),
    [
        pytest.param("OPENED", ["OPENED"], (None, State.OPEN), id="opened"),
        pytest.param(
            "INVESTIGATION_STARTED",
            ["INVESTIGATION_STARTED", "OPENED"],
            (State.OPEN, State.INVESTIGATING),
            id="investigation started",
        ),
        pytest.param("RESOLVED", ["RESOLVED", "OPENED"], (State.OPEN, State.RESOLVED), id="resolved unseen"),
        pytest.param(
            "RESOLVED",
            ["RESOLVED", "INVESTIGATION_STARTED"],
            (State.INVESTIGATING, State.RESOLVED),
            id="resolved while it was investigated",
        ),
        pytest.param("REOPENED", ["REOPENED", "RESOLVED"], (State.RESOLVED, State.OPEN), id="reopened"),
        pytest.param("RESOLVED", ["RESOLVED", "REOPENED"], (State.OPEN, State.RESOLVED), id="resolved again"),
        pytest.param(
            "NOTE", ["RESOLVED", "OPENED"], (State.RESOLVED, State.RESOLVED), id="a note changes no state"
        ),
        pytest.param("NOTE", [], (State.OPEN, State.OPEN), id="a note on a timeline without an opening"),
        pytest.param(
            "RESOLVED", ["RESOLVED"], (State.OPEN, State.RESOLVED), id="resolved without an opening"
        ),
    ],
)
def test_the_states_around_an_event_follow_from_the_latest_state_changes(
    event: str, latest: Sequence[str], around: tuple[State | None, State]
) -> None:
    assert states_around(EventType(event), [EventType(each) for each in latest]) == around


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        pytest.param({}, True, id="no criteria"),
        pytest.param({"states": (State.OPEN,)}, True, id="the state before"),
        pytest.param({"states": (State.RESOLVED,)}, True, id="the state after"),
        pytest.param({"states": (State.INVESTIGATING,)}, False, id="neither state"),
        pytest.param({"severities": (Severity.LOW, Severity.HIGH)}, True, id="one of the severities"),
        pytest.param({"severities": (Severity.LOW,)}, False, id="another severity"),
        pytest.param({"fingerprint": "disk"}, True, id="its fingerprint"),
        pytest.param({"fingerprint": "dis"}, False, id="a part of its fingerprint"),
        pytest.param({"labels": {"team": "a"}}, True, id="one of its labels"),
        pytest.param({"labels": {"team": "a", "zone": "eu"}}, True, id="all of its labels"),
        pytest.param({"labels": {"team": "a", "host": "db-1"}}, False, id="a label it does not have"),
        pytest.param({"labels": {"team": "b"}}, False, id="another value of a label"),
        pytest.param({"incident_id": "INC-20260507-0000A1"}, True, id="its id"),
        pytest.param({"incident_id": "INC-20260507-0000A2"}, False, id="another id"),
        pytest.param(
            {"states": (State.OPEN,), "severities": (Severity.LOW,)}, False, id="only one of two filters"
        ),
    ],
)
def test_a_change_matches_when_it_matches_every_criterion(fields: Mapping[str, Any], passes: bool) -> None:
    resolved = change(
        incident(severity=Severity.HIGH, fingerprint="disk", labels={"team": "a", "zone": "eu"}),
        before=State.OPEN,
        after=State.RESOLVED,
    )
    assert WatchFilter(**fields).matches(resolved) is passes


@pytest.mark.parametrize(
    ("states", "passes"),
    [
        pytest.param((), True, id="no states"),
        pytest.param((State.OPEN, State.RESOLVED), True, id="its state"),
        pytest.param((State.RESOLVED,), False, id="another state"),
    ],
)
def test_an_existing_incident_matches_by_its_present_state(states: tuple[State, ...], passes: bool) -> None:
    assert WatchFilter(states=states).matches_incident(incident(state=State.OPEN)) is passes
