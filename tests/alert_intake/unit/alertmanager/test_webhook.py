"""The body of a webhook, version 4: parsed, or refused with the path of each bad field."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from alert_intake.alertmanager.webhook import WebhookError, parse_webhook
from tests.alert_intake.notifications import ENDED, alert, body, notification


def refused(content: bytes) -> list[str]:
    with pytest.raises(WebhookError) as raised:
        parse_webhook(content)
    return raised.value.problems


def test_a_notification_is_parsed_with_its_alerts_in_order() -> None:
    parsed = parse_webhook(body(alert("a1"), alert("b2", firing=False), truncatedAlerts=3))
    assert (parsed.receiver, parsed.firing, parsed.truncated) == ("flywheel", True, 3)
    first, second = parsed.alerts
    assert (first.fingerprint, first.firing, first.ends_at) == ("a1", True, None)
    assert first.starts_at == datetime(2026, 5, 7, 10, 0, 0, 500_000, tzinfo=UTC)
    assert (second.fingerprint, second.firing) == ("b2", False)
    assert second.ends_at == datetime.fromisoformat(ENDED)


def test_fields_of_later_versions_of_alertmanager_are_ignored() -> None:
    assert parse_webhook(body(alert(news={"a": 1}), fromTheFuture=[1])).alerts


def test_a_time_with_another_offset_is_the_same_instant_in_utc() -> None:
    (parsed,) = parse_webhook(body(alert(startsAt="2026-05-07T12:00:00.5+02:00"))).alerts
    assert parsed.starts_at == datetime(2026, 5, 7, 10, 0, 0, 500_000, tzinfo=UTC)
    assert parsed.starts_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": "3"}, "version must be '4'"),
        ({"status": "unknown"}, "status must be 'firing' or 'resolved'"),
        ({"groupKey": ""}, "groupKey must not be empty"),
        ({"groupKey": 7}, "groupKey must be a string"),
        ({"receiver": None}, "receiver must be a string"),
        ({"truncatedAlerts": -1}, "truncatedAlerts must not be negative"),
        ({"truncatedAlerts": "1"}, "truncatedAlerts must be an integer"),
        ({"commonLabels": []}, "commonLabels must be an object of strings"),
        ({"commonLabels": {"a": 1}}, "commonLabels.a must be a string"),
        ({"alerts": []}, "alerts must not be empty"),
        ({"alerts": {}}, "alerts must be a list"),
        ({"alerts": [1]}, "alerts[0] must be an object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_field_of_the_notification_is_named(changes: dict[str, Any], problem: str) -> None:
    assert refused(json.dumps({**notification(), **changes}).encode()) == [problem]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": "FIRING"}, "alerts[1].status must be 'firing' or 'resolved'"),
        ({"labels": None}, "alerts[1].labels must be an object of strings"),
        ({"annotations": {"summary": ["x"]}}, "alerts[1].annotations.summary must be a string"),
        ({"startsAt": "today"}, "alerts[1].startsAt "),
        ({"startsAt": "2026-05-07T10:00:00"}, "alerts[1].startsAt must have a time zone"),
        (
            {"startsAt": "0001-01-01T00:00:00+01:00"},
            "alerts[1].startsAt must be between the years 1 and 9999",
        ),
        ({"fingerprint": "a b"}, "alerts[1].fingerprint must be 1 to 56 printable ASCII characters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_field_of_an_alert_is_named_with_its_position(changes: dict[str, Any], problem: str) -> None:
    (found,) = refused(body(alert("a1"), {**alert("b2"), **changes}))
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "name", ["version", "groupKey", "status", "receiver", "groupLabels", "commonLabels", "alerts"]
)
def test_a_missing_field_of_the_notification_is_named(name: str) -> None:
    content = notification()
    del content[name]
    assert refused(json.dumps(content).encode()) == [f"{name} is required"]


@pytest.mark.parametrize("name", ["status", "labels", "startsAt", "fingerprint"])
def test_a_missing_field_of_an_alert_is_named(name: str) -> None:
    content = alert()
    del content[name]
    assert refused(body(content)) == [f"alerts[0].{name} is required"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 100_000], ids=["empty", "cut", "not UTF-8", "deep"]
)
def test_a_body_that_is_not_json_is_refused(content: bytes) -> None:
    (problem,) = refused(content)
    assert problem.startswith("the body is not JSON: ")


def test_the_problems_of_a_body_are_bounded() -> None:
    problems = refused(body(*[alert("") for _ in range(1_000)]))
    assert len(problems) == 21
    assert problems[-1] == "and 980 more"
