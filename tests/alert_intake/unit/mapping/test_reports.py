"""What a notification says: what incidents are opened with, from the alerts."""

from datetime import datetime
from typing import Any

import pytest

from alert_intake.alertmanager.webhook import parse_webhook
from alert_intake.mapping.file import DEFAULT_MAPPING, MappingFileError, parse_mapping
from alert_intake.mapping.model import AlertMapping, Severity
from alert_intake.mapping.report import Report, find_reports
from servicekit import text
from tests.alert_intake.notifications import ENDED, STARTED, alert, body

GROUPED = parse_mapping(b'[default]\ngroup = "group"\n')
LATER = "2026-05-07T11:00:00Z"


def reports(*alerts: dict[str, Any], mapping: AlertMapping = DEFAULT_MAPPING, **fields: Any) -> list[Report]:
    return list(find_reports(parse_webhook(body(*alerts, **fields)), mapping))


def report(**fields: Any) -> Report:
    (only,) = reports(alert(**fields))
    return only


def test_an_alert_becomes_an_incident_with_its_summary_description_severity_and_labels() -> None:
    found = report()
    assert found.title == "The disk of db-1 is full"
    assert found.description == "2 % are left.\n\nhttp://prometheus:9090/graph?g0.expr=up"
    assert found.severity is Severity.CRITICAL
    assert found.labels == {"alertname": "DiskFull", "severity": "critical", "instance": "db-1:9100"}
    assert (found.firing, found.fingerprint) == (True, "c0ffee0123456789")


def test_the_end_of_an_alert_is_what_alertmanager_says_or_its_beginning() -> None:
    assert report(firing=False).ends_at == datetime.fromisoformat(ENDED)
    without = report(firing=False, endsAt="0001-01-01T00:00:00Z")
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
    found = report(annotations=annotations, labels=labels).title
    assert found == title
    assert text.is_line(found)


def test_a_long_description_is_cut_at_a_character() -> None:
    found = report(annotations={"description": "ü" * 5_000}).description
    assert len(found.encode()) <= 8_192
    assert found.endswith("ü…")


def test_more_labels_than_an_incident_takes_are_left_out_and_its_name_is_kept() -> None:
    labels = {f"label_{number:03}": "x" for number in range(100)} | {"alertname": "DiskFull", "z": "y" * 300}
    found = report(labels=labels).labels
    assert len(found) == 64
    assert found["alertname"] == "DiskFull"
    assert report(labels={"z": "y" * 300}).labels == {"z": "y" * 255 + "…"}


@pytest.mark.parametrize(
    ("said", "severity"),
    [("critical", "CRITICAL"), ("Warning", "MEDIUM"), ("P1", "MEDIUM"), ("", "MEDIUM"), ("info", "INFO")],
)
def test_the_usual_severities_are_known_and_another_one_is_the_default(said: str, severity: str) -> None:
    assert report(labels={"severity": said}).severity.value == severity


def test_a_receiver_has_its_own_mapping() -> None:
    mapping = parse_mapping(
        b'[receivers.database]\ntitle = ["label:instance"]\nseverity = ["label:prio"]\nseverities = { P1 = "HIGH" }\n'
        b'labels = ["instance"]\n'
    )
    own = alert(labels={"instance": "db-1", "prio": "p1", "pod": "x"})
    (found,) = reports(own, mapping=mapping, receiver="database")
    assert (found.title, found.severity, found.labels) == ("db-1", Severity.HIGH, {"instance": "db-1"})
    (other,) = reports(own, mapping=mapping)
    assert other.labels == own["labels"]


def test_what_a_receiver_leaves_out_is_as_in_the_default() -> None:
    mapping = parse_mapping(
        b'[default]\ntitle = ["label:instance"]\nlabels = ["instance"]\nseverities = { P1 = "CRITICAL" }\n'
        b'[receivers.database]\nlabels = ["pod"]\nseverities = { P2 = "HIGH" }\n'
    )
    own = alert(labels={"instance": "db-1", "severity": "P1", "pod": "x"})
    (found,) = reports(own, mapping=mapping, receiver="database")
    assert (found.title, found.severity, found.labels) == ("db-1", Severity.CRITICAL, {"pod": "x"})


def test_a_group_is_one_report_that_began_with_its_first_firing_alert() -> None:
    firing = [alert("a1", startsAt=LATER), alert("b2")]
    (found,) = reports(*firing, alert("c3", firing=False, startsAt="2026-05-07T09:00:00Z"), mapping=GROUPED)
    assert found.starts_at == datetime.fromisoformat(STARTED)
    assert found.fingerprint.startswith("group:")
    assert found.labels == {
        "alertname": "DiskFull",
        "severity": "critical",
        "alertmanager_group": '{"labels":{"alertname":"DiskFull"},"receiver":"flywheel"}',
    }
    assert found.description.count("\n- ") == 1
    (same,) = reports(*firing[1:], mapping=GROUPED)
    assert (same.fingerprint, same.starts_at) == (found.fingerprint, found.starts_at)
    (another,) = reports(*firing, mapping=GROUPED, groupKey="another")
    assert another.fingerprint != found.fingerprint


@pytest.mark.parametrize(
    ("value", "kept"), [("x" * 100, True), ("ż" * 100, False)], ids=["short", "too long when it is escaped"]
)
def test_the_group_is_named_for_the_verifier_as_a_whole_or_not_at_all(value: str, kept: bool) -> None:
    group = {"zone": value, "alertname": "DiskFull"}
    mapping = parse_mapping(b'[default]\ngroup = "group"\nlabels = []\n')
    (found,) = reports(alert(), mapping=mapping, groupLabels=group)
    named = {
        "alertmanager_group": f'{{"labels":{{"alertname":"DiskFull","zone":"{value}"}},"receiver":"flywheel"}}'
    }
    assert found.labels == (named if kept else {})


def test_a_group_ends_when_its_last_alert_does() -> None:
    ended = [alert("a1", firing=False, endsAt=LATER), alert("b2", firing=False)]
    (found,) = reports(*ended, mapping=GROUPED)
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


@pytest.mark.parametrize(
    ("annotation", "label"),
    [
        ('up{job="api"} == 0', 'up{job="api"} == 0'),
        ("x" * 256, "x" * 256),
        ("x" * 257, None),
        ("", None),
    ],
    ids=["short", "longest", "too long to be whole", "empty"],
)
def test_the_expression_of_a_recovery_is_a_label(annotation: str, label: str | None) -> None:
    found = report(annotations={"recovery_expression": annotation})
    assert found.labels.get("recovery_expression") == label
    many = {f"label{number:03}": "x" for number in range(80)}
    assert len(report(annotations={"recovery_expression": annotation}, labels=many).labels) == 64
