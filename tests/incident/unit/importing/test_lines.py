"""The lines of an import: valid and invalid fields, and the timelines that they become."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from incident.importing.lines import IncidentLine
from incident.importing.timeline_lines import ApprovalLine
from incident.model import EventType
from servicekit.importing.fields import wrong_fields
from tests.imports import LONG_AGO, approval, at, incident, pending_approval, resolved_incident

NOW = LONG_AGO.replace(year=LONG_AGO.year + 1)
LATER = NOW.replace(year=NOW.year + 1).isoformat()


def mistakes(line: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        return list(IncidentLine.model_validate_json(json.dumps(line)).contradictions(NOW))
    except ValidationError as exc:
        return list(wrong_fields(exc))


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(incident(), id="investigating"),
        pytest.param(incident(state="OPEN", investigate_time=...), id="open"),
        pytest.param(resolved_incident(), id="resolved"),
        pytest.param(resolved_incident(resolved_by=..., resolution_note=...), id="resolved without an actor"),
        pytest.param(resolved_incident(investigate_time=None), id="resolved and never investigated"),
        pytest.param(
            incident(
                description=None,
                fingerprint=None,
                labels=None,
                source=None,
                opened_by=None,
                resolve_time=None,
            ),
            id="null is not there",
        ),
        pytest.param(incident(fingerprint="", source="", description=""), id="empty texts"),
        pytest.param(
            incident(create_time="2025-05-07T12:00:00.123456789+02:00", investigate_time=at(30)), id="a zone"
        ),
        pytest.param(incident(title="é" * 500, description="x" * 8192), id="as long as may be"),
        pytest.param(incident(labels={f"key {number}": "v" * 256 for number in range(64)}), id="many labels"),
    ],
)
def test_a_valid_line_has_no_problem(line: dict[str, Any]) -> None:
    assert mistakes(line) == []


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        pytest.param(incident(incident_id=...), "incident_id", "is required", id="no id"),
        pytest.param(
            incident(incident_id="INC-1"), "incident_id", "expected INC-YYYYMMDD-", id="an id that is none"
        ),
        pytest.param(
            incident(incident_id="INC-20250507-00000a"), "incident_id", "expected INC-", id="lower case"
        ),
        pytest.param(
            incident(incident_id="INC-20250507-000001\n"), "incident_id", "expected INC-", id="a line break"
        ),
        pytest.param(
            incident(incident_id=7), "incident_id", "expected a valid string", id="an id that is a number"
        ),
        pytest.param(incident(title=" "), "title", "must not be blank", id="blank"),
        pytest.param(incident(title="x" * 501), "title", "is longer than 500 characters", id="a long title"),
        pytest.param(incident(title="a\0b"), "title", "must not contain the character U+0000", id="NUL"),
        pytest.param(
            incident(description="é" * 4097), "description", "is longer than 8192 bytes", id="long text"
        ),
        pytest.param(
            incident(severity="P3"), "severity", "expected CRITICAL, HIGH, MEDIUM, LOW or INFO", id="severity"
        ),
        pytest.param(
            incident(state="STUCK"), "state", "expected OPEN, INVESTIGATING or RESOLVED", id="unknown state"
        ),
        pytest.param(incident(fingerprint=" "), "fingerprint", "must not be blank", id="blank fingerprint"),
        pytest.param(incident(fingerprint="a\tb"), "fingerprint", "must not contain control", id="a tab"),
        pytest.param(incident(title="\u200b \u3164"), "title", "must not be blank", id="an invisible title"),
        pytest.param(
            incident(title="\x1b[31m"), "title", "must not contain control", id="an escape character"
        ),
        pytest.param(incident(title="a\u202eb"), "title", "must not contain control", id="an override"),
        pytest.param(
            incident(description="a\0b"),
            "description",
            "must not contain the character U+0000",
            id="NUL in a description",
        ),
        pytest.param(
            incident(source="a\u200bb"), "source", "must not contain control", id="an invisible character"
        ),
        pytest.param(
            incident(opened_by="a\u202eb"), "opened_by", "must not contain control", id="an actor in reverse"
        ),
        pytest.param(
            incident(labels={"a b": "1", "a  b": "2"}),
            "labels",
            "must not have keys",
            id="keys that differ in spaces",
        ),
        pytest.param(
            incident(labels={"caf\u00e9": "1", "cafe\u0301": "2"}),
            "labels",
            "must not have keys",
            id="NFC and NFD",
        ),
        pytest.param(incident(labels={" ": "1"}), 'labels." "', "must not be blank", id="a blank key"),
        pytest.param(
            incident(labels={"a\u202eb": "1"}),
            'labels."a\\u202eb"',
            "must not contain control",
            id="a key in reverse",
        ),
        pytest.param(incident(source="x" * 257), "source", "is longer than 256 characters", id="long source"),
        pytest.param(
            incident(labels={"a": 1}), "labels.a", "expected a valid string", id="a label that is a number"
        ),
        pytest.param(incident(labels={"": "x"}), 'labels.""', "String should have at least 1", id="no key"),
        pytest.param(
            incident(labels={"a": "\0"}), "labels.a", "must not contain the character", id="NUL in a label"
        ),
        pytest.param(
            incident(labels=dict.fromkeys(map(str, range(65)), "")), "labels", "are more than 64", id="labels"
        ),
        pytest.param(
            incident(occurrence_count=0), "occurrence_count", "expected greater than", id="never seen"
        ),
        pytest.param(
            incident(occurrence_count=2**31), "occurrence_count", "expected less than", id="too often"
        ),
        pytest.param(
            incident(occurrence_count=1.5), "occurrence_count", "expected a valid integer", id="half"
        ),
        pytest.param(incident(opened_by=""), "opened_by", "must not be blank", id="opened without an actor"),
        pytest.param(
            incident(colour="red"), "colour", "is not a field of such a line", id="an unknown field"
        ),
        pytest.param(incident(**{"a\nb": 1}), '"a\\nb"', "is not a field", id="a field with a line break"),
        pytest.param(incident(create_time=...), "create_time", "is required", id="no time"),
        pytest.param(
            incident(create_time=1778148000), "create_time", "expected a time such as", id="a number"
        ),
        pytest.param(
            incident(create_time="2025-05-07"), "create_time", "expected a time such as", id="a day"
        ),
        pytest.param(
            incident(create_time="2025-05-07T10:00:00"), "create_time", "expected a time", id="no zone"
        ),
        pytest.param(
            incident(create_time="2025-02-30T10:00:00Z"), "create_time", "is no time of", id="no such day"
        ),
        pytest.param(
            incident(create_time="0001-01-01T00:00:00+14:00"), "create_time", "is no time", id="out of time"
        ),
        pytest.param(
            incident(create_time="1969-12-31T23:59:59Z"), "create_time", "is before 1970", id="too early"
        ),
        pytest.param(incident(investigate_time=LATER), "investigate_time", "lies in the future", id="future"),
        pytest.param(
            incident(investigate_time=at(0)), "investigate_time", "is before create_time", id="order"
        ),
        pytest.param(
            incident(investigate_time=...), "investigate_time", "is required when", id="not investigated"
        ),
        pytest.param(
            incident(state="OPEN"), "investigate_time", "does not go with the state OPEN", id="open"
        ),
        pytest.param(
            incident(resolve_time=at(60)), "resolve_time", "does not go with", id="resolved, or not"
        ),
        pytest.param(incident(resolved_by="bob"), "resolved_by", "does not go with", id="a resolver"),
        pytest.param(incident(resolution_note="x"), "resolution_note", "does not go with", id="a note"),
        pytest.param(
            incident(last_seen_time=at(29)), "last_seen_time", "is before create_time", id="seen before"
        ),
        pytest.param(
            incident(last_seen_time=LATER), "last_seen_time", "lies in the future", id="seen in the future"
        ),
        pytest.param(
            resolved_incident(resolve_time=...), "resolve_time", "is required when", id="resolved when"
        ),
        pytest.param(
            resolved_incident(resolution_type=...), "resolution_type", "is required when", id="resolved how"
        ),
        pytest.param(
            resolved_incident(resolution_type="DONE"), "resolution_type", "expected NO_ACTION", id="how"
        ),
        pytest.param(
            resolved_incident(resolve_time=at(30)),
            "resolve_time",
            "is before investigate",
            id="too early yet",
        ),
        pytest.param(
            resolved_incident(last_seen_time=at(999)), "last_seen_time", "is after resolve_time", id="late"
        ),
    ],
)
def test_an_invalid_field_is_named(line: dict[str, Any], field: str, reason: str) -> None:
    ((found, said),) = mistakes(line)
    assert found == field
    assert said.startswith(reason)


def test_all_invalid_fields_of_a_line_are_named() -> None:
    found = mistakes(incident(title="", severity="P3", create_time="yesterday", extra=1))
    assert [field for field, _ in found] == ["title", "severity", "create_time", "extra"]


def test_a_lone_surrogate_is_refused() -> None:
    found = mistakes({**incident(), "title": "\ud800"})
    assert [field for field, _ in found] == [""]


def test_the_value_of_an_invalid_field_is_not_repeated() -> None:
    assert "hunter2" not in repr(mistakes(incident(severity="hunter2", incident_id="hunter2")))


@pytest.mark.parametrize(
    ("line", "types"),
    [
        pytest.param(approval(), ["PROPOSED", "APPROVED", "EXECUTED"], id="succeeded"),
        pytest.param(
            approval(state="FAILED", action="look"), ["PROPOSED", "APPROVED", "EXECUTION_FAILED"], id="failed"
        ),
        pytest.param(pending_approval(), ["PROPOSED"], id="pending"),
        pytest.param(approval(state="APPROVED", finish_time=...), ["PROPOSED", "APPROVED"], id="approved"),
        pytest.param(approval(state="REJECTED", finish_time=...), ["PROPOSED", "REJECTED"], id="rejected"),
        pytest.param(approval(state="EXPIRED", finish_time=...), ["PROPOSED", "EXPIRED"], id="expired"),
        pytest.param(
            approval(state="CANCELLED", finish_time=..., cancelled_by="bob"),
            ["PROPOSED", "CANCELLED"],
            id="cancelled",
        ),
    ],
)
def test_an_approval_is_on_its_incidents_timeline(line: dict[str, Any], types: list[str]) -> None:
    events = list(ApprovalLine.model_validate_json(json.dumps(line)).events())
    assert [event.type for event in events] == [EventType(each) for each in types]
    assert {event.attributes["approval_id"] for event in events} == {line["approval_id"]}
    assert all(event.event_time is not None for event in events)


def test_texts_are_normalized_as_by_the_rpcs() -> None:
    line = IncidentLine.model_validate_json(
        json.dumps(
            incident(
                title=" disk\n full\t",
                description="a\r\nb\tc\x1b",
                fingerprint="cafe\u0301  1",
                source="",
                labels={"cafe\u0301 ": "a\rb"},
                opened_by="Jose\u0301",
            )
        )
    )
    assert (line.title, line.description) == ("disk full", "a\nb\tc ")
    assert (line.fingerprint, line.source, line.labels) == ("caf\u00e9 1", "", {"caf\u00e9": "a\nb"})
    assert line.opened_by == "Jos\u00e9"


def test_the_action_on_an_imported_timeline_is_one_line() -> None:
    line = ApprovalLine.model_validate_json(json.dumps(approval(action="NO_ACTION:\n\nlook\u3000again")))
    assert next(line.events()).summary == "NO_ACTION: look again"
