"""What a notification is about: what incidents are opened with, and by which ids."""

import re
from datetime import datetime
from typing import Any

import pytest

from alert_intake.alertmanager.webhook import parse_webhook
from alert_intake.mapping.file import DEFAULT_MAPPING, MappingFileError, parse_mapping
from alert_intake.mapping.model import AlertMapping, Severity
from alert_intake.mapping.problem import Problem, find_problems, started_at
from servicekit import text
from tests.alert_intake.notifications import ENDED, STARTED, alert, body

GROUPED = parse_mapping(b'[default]\ngroup = "group"\n')
LATER = "2026-05-07T11:00:00Z"


def problems(
    *alerts: dict[str, Any], mapping: AlertMapping = DEFAULT_MAPPING, **fields: Any
) -> list[Problem]:
    return list(find_problems(parse_webhook(body(*alerts, **fields)), mapping))


def problem(**fields: Any) -> Problem:
    (only,) = problems(alert(**fields))
    return only


def test_an_alert_becomes_an_incident_with_its_summary_description_severity_and_labels() -> None:
    found = problem()
    assert found.title == "The disk of db-1 is full"
    assert found.description == "2 % are left.\n\nhttp://prometheus:9090/graph?g0.expr=up"
    assert found.severity is Severity.CRITICAL
    assert found.labels == {"alertname": "DiskFull", "severity": "critical", "instance": "db-1:9100"}
    assert (found.firing, found.fingerprint) == (True, "c0ffee0123456789")


def test_every_report_of_one_firing_has_the_same_ids_whatever_its_annotations_say() -> None:
    first, again = problem(), problem(annotations={"summary": "now 1 %"})
    ended = problem(firing=False)
    assert first.request_id == again.request_id == ended.request_id
    assert first.incident_id == again.incident_id == ended.incident_id
    assert re.fullmatch(r"INC-20260507-[0-9A-F]{12}", first.incident_id)


def test_another_firing_of_the_alert_has_its_fingerprint_and_other_ids() -> None:
    first, later = problem(), problem(startsAt=LATER)
    assert first.fingerprint == later.fingerprint
    assert first.request_id != later.request_id
    assert first.incident_id != later.incident_id


def test_the_beginning_of_a_firing_is_read_back_from_its_request_id() -> None:
    assert started_at(problem().request_id) == datetime.fromisoformat(STARTED)
    assert started_at("") is None
    assert started_at("6f1c2a34") is None


def test_the_end_of_an_alert_is_what_alertmanager_says_or_its_beginning() -> None:
    assert problem(firing=False).ends_at == datetime.fromisoformat(ENDED)
    without = problem(firing=False, endsAt="0001-01-01T00:00:00Z")
    assert without.ends_at == without.starts_at


@pytest.mark.parametrize(
    ("annotations", "labels", "title"),
    [
        ({"summary": "two\nlines\tand\x00 more"}, {}, "two lines and more"),
        ({"summary": " \u200b "}, {"alertname": "DiskFull"}, "DiskFull"),
        ({}, {}, "alert c0ffee0123456789"),
        ({"summary": "x" * 600}, {}, "x" * 499 + "…"),
        ({"summary": "\u202eevil"}, {}, "evil"),
    ],
    ids=["lines", "blank", "nothing", "long", "override"],
)
def test_a_title_is_one_line_that_the_incident_service_takes(
    annotations: dict[str, str], labels: dict[str, str], title: str
) -> None:
    found = problem(annotations=annotations, labels=labels).title
    assert found == title
    assert text.is_line(found)


def test_a_long_description_is_cut_at_a_character() -> None:
    found = problem(annotations={"description": "ü" * 5_000}).description
    assert len(found.encode()) <= 8_192
    assert found.endswith("ü…")


def test_more_labels_than_an_incident_takes_are_left_out_and_its_name_is_kept() -> None:
    labels = {f"label_{number:03}": "x" for number in range(100)} | {"alertname": "DiskFull", "z": "y" * 300}
    found = problem(labels=labels).labels
    assert len(found) == 64
    assert found["alertname"] == "DiskFull"
    assert problem(labels={"z": "y" * 300}).labels == {"z": "y" * 255 + "…"}


@pytest.mark.parametrize(
    ("said", "severity"),
    [("critical", "CRITICAL"), ("Warning", "MEDIUM"), ("P1", "MEDIUM"), ("", "MEDIUM"), ("info", "INFO")],
)
def test_the_usual_severities_are_known_and_another_one_is_the_default(said: str, severity: str) -> None:
    assert problem(labels={"severity": said}).severity.value == severity


def test_a_receiver_has_its_own_mapping() -> None:
    mapping = parse_mapping(
        b'[receivers.database]\ntitle = ["label:instance"]\nseverity = ["label:prio"]\nseverities = { P1 = "HIGH" }\n'
        b'labels = ["instance"]\n'
    )
    own = alert(labels={"instance": "db-1", "prio": "p1", "pod": "x"})
    (found,) = problems(own, mapping=mapping, receiver="database")
    assert (found.title, found.severity, found.labels) == ("db-1", Severity.HIGH, {"instance": "db-1"})
    (other,) = problems(own, mapping=mapping)
    assert other.labels == own["labels"]


def test_a_group_is_one_problem_that_began_with_its_first_firing_alert() -> None:
    firing = [alert("a1", startsAt=LATER), alert("b2")]
    (found,) = problems(*firing, alert("c3", firing=False, startsAt="2026-05-07T09:00:00Z"), mapping=GROUPED)
    assert found.starts_at == datetime.fromisoformat(STARTED)
    assert found.fingerprint.startswith("group:")
    assert found.labels == {"alertname": "DiskFull", "severity": "critical"}
    assert found.description.count("\n- ") == 1
    (same,) = problems(*firing[1:], mapping=GROUPED)
    assert same.incident_id == found.incident_id
    (another,) = problems(*firing, mapping=GROUPED, groupKey="another")
    assert another.fingerprint != found.fingerprint


def test_a_group_ends_when_its_last_alert_does() -> None:
    ended = [alert("a1", firing=False, endsAt=LATER), alert("b2", firing=False)]
    (found,) = problems(*ended, mapping=GROUPED)
    assert not found.firing
    assert found.ends_at == datetime.fromisoformat(LATER)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[default", "is not TOML: "),
        (b"\xff", "is not UTF-8 (at line 1)"),
        (
            b'[default]\ntitle = ["summary"]\n',
            'default.title.0: expected "label:<name>" or "annotation:<name>"',
        ),
        (b'[default]\ntitel = ["label:x"]\n', "default.titel: is no key of a receiver"),
        (b'[default]\ngroup = "all"\n', "default.group: expected 'alert' or 'group'"),
        (b'[receivers.a]\ndefault_severity = "P1"\n', "receivers.a.default_severity: expected 'CRITICAL'"),
    ],
    ids=["not TOML", "not UTF-8", "source", "key", "group", "severity"],
)
def test_a_mapping_file_that_cannot_be_used_says_where(content: bytes, problem: str) -> None:
    with pytest.raises(MappingFileError) as raised:
        parse_mapping(content)
    assert raised.value.problems[0].startswith(problem)
