"""Which rule approves what: every criterion, at its boundaries."""

import dataclasses
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from approval.model import Approval, Operation, OperationKind, Risk, Severity
from approval.policy.model import Policy, Rule, TimeOfDay
from tests.approval.unit.proposed import NOON, new_approval

OBSERVE = Rule("observe", frozenset({OperationKind.NO_ACTION}), frozenset({Risk.LOW}))
RESTART = Rule(
    "restart",
    frozenset({OperationKind.RESTART, OperationKind.DELETE}),
    frozenset({Risk.LOW, Risk.MEDIUM}),
    namespaces=frozenset({"staging", "test"}),
    confidence_at_least=0.9,
    severities=frozenset({Severity.LOW, Severity.INFO}),
    time_of_day=TimeOfDay(time(9), time(17), ZoneInfo("UTC")),
)
CALL = Rule("call", frozenset({OperationKind.HTTP}), frozenset({Risk.LOW}), hooks=frozenset({"page"}))
POLICY = Policy((OBSERVE, RESTART, CALL))


def rule_for(approval: Approval, severity: Severity | None = Severity.LOW) -> str | None:
    rule = POLICY.find_rule(approval, severity)
    return None if rule is None else rule.name


NO_ACTION = "NO_ACTION: look again at noon"
STAGING = "RESTART deployment/web -n staging"
HOOK = "HTTP POST page"


@pytest.mark.parametrize(
    ("action", "facts", "severity", "rule"),
    [
        pytest.param(NO_ACTION, {}, Severity.LOW, "observe", id="an action of the rule"),
        pytest.param("SCALE deployment/web --replicas=2 -n staging", {}, Severity.LOW, None, id="no rule's action"),
        pytest.param("restart the api", {}, Severity.LOW, None, id="what cannot be parsed"),
        pytest.param("NO_ACTIONS", {}, Severity.LOW, None, id="what only looks like NO_ACTION"),
        pytest.param(NO_ACTION, {"risk": Risk.MEDIUM}, Severity.LOW, None, id="another risk"),
        pytest.param(STAGING, {"risk": Risk.MEDIUM}, Severity.LOW, "restart", id="one of two risks"),
        pytest.param(STAGING, {"risk": Risk.CRITICAL}, Severity.LOW, None, id="a risk above"),
        pytest.param("RESTART deployment/web -n test", {}, Severity.LOW, "restart", id="another namespace of the rule"),
        pytest.param("DELETE pod/web-1 -n test", {}, Severity.LOW, "restart", id="another action of the rule"),
        pytest.param("RESTART deployment/web -n prod", {}, Severity.LOW, None, id="another namespace"),
        pytest.param("RESTART deployment/staging -n prod", {}, Severity.LOW, None, id="a name like the namespace"),
        pytest.param("RESTART deployment/web -n staging-2", {}, Severity.LOW, None, id="a longer namespace"),
        pytest.param(HOOK, {}, Severity.LOW, "call", id="the rule's hook"),
        pytest.param("HTTP POST other", {}, Severity.LOW, None, id="another hook"),
        pytest.param(STAGING, {"confidence": 0.9}, Severity.LOW, "restart", id="just sure enough"),
        pytest.param(STAGING, {"confidence": 0.8999999}, Severity.LOW, None, id="just not sure enough"),
        pytest.param(STAGING, {"confidence": None}, Severity.LOW, None, id="no confidence"),
        pytest.param(NO_ACTION, {"confidence": None}, Severity.LOW, "observe", id="no confidence, none required"),
        pytest.param(STAGING, {}, Severity.INFO, "restart", id="one of two severities"),
        pytest.param(STAGING, {}, Severity.MEDIUM, None, id="another severity"),
        pytest.param(STAGING, {}, None, None, id="an unknown severity"),
        pytest.param(NO_ACTION, {}, None, "observe", id="no severity, none required"),
        pytest.param(STAGING, {"create_time": NOON.replace(hour=9)}, Severity.LOW, "restart", id="from its time on"),
        pytest.param(STAGING, {"create_time": NOON.replace(hour=17)}, Severity.LOW, None, id="until before its end"),
        pytest.param(NO_ACTION, {"required_approvals": 2}, Severity.LOW, None, id="two approvers"),
        pytest.param(NO_ACTION, {"incident_verified": False}, None, "observe", id="observing what was not verified"),
        pytest.param(HOOK, {"incident_verified": False}, None, None, id="an operation on what was not verified"),
        pytest.param(NO_ACTION, {"auto_execute": False}, Severity.LOW, "observe", id="not executed by itself"),
    ],
)  # fmt: skip
def test_a_rule_approves_what_matches_every_criterion(
    action: str, facts: dict[str, Any], severity: Severity | None, rule: str | None
) -> None:
    assert rule_for(new_approval(action, **facts), severity) == rule


def test_the_first_rule_that_matches_approves() -> None:
    second = dataclasses.replace(OBSERVE, name="second")
    never = dataclasses.replace(OBSERVE, name="never", confidence_at_least=1.0)
    hesitant = new_approval(NO_ACTION, confidence=0.5)
    assert Policy((never, second, OBSERVE)).find_rule(hesitant, None) is second
    assert Policy((OBSERVE, second)).find_rule(hesitant, None) is OBSERVE


def test_without_rules_nothing_is_approved() -> None:
    assert Policy().find_rule(new_approval(NO_ACTION), Severity.INFO) is None


@pytest.mark.parametrize("kind", OperationKind)
def test_no_rule_approves_an_operation_for_an_unverified_incident(kind: OperationKind) -> None:
    anything = Rule("anything", frozenset(OperationKind), frozenset(Risk))
    approval = dataclasses.replace(
        new_approval(NO_ACTION), operation=Operation(kind, "pod", "x", "prod"), incident_verified=False
    )
    found = Policy((anything,)).find_rule(approval, Severity.LOW)
    assert (found is anything) is (kind is OperationKind.NO_ACTION)


def window(start: str, end: str, zone: str = "UTC") -> TimeOfDay:
    return TimeOfDay(time.fromisoformat(start), time.fromisoformat(end), ZoneInfo(zone))


DAY = window("09:00", "17:00")
NIGHT = window("22:00", "06:00")
UNTIL_MIDNIGHT = window("18:00", "00:00")
FROM_MIDNIGHT = window("00:00", "06:00")
BERLIN = window("09:00", "17:00", "Europe/Berlin")
# At 02:00 clocks go to 03:00 on 29 March 2026, and at 03:00 back to 02:00 on 25 October.
BERLIN_NIGHT = window("02:00", "03:00", "Europe/Berlin")
KATHMANDU = window("09:00", "17:00", "Asia/Kathmandu")
AUCKLAND_NIGHT = window("22:00", "06:00", "Pacific/Auckland")


@pytest.mark.parametrize(
    ("part", "instant", "inside"),
    [
        pytest.param(DAY, "2026-05-07T08:59:59.999999Z", False, id="just before"),
        pytest.param(DAY, "2026-05-07T09:00:00Z", True, id="from its start"),
        pytest.param(DAY, "2026-05-07T16:59:59.999999Z", True, id="until just before its end"),
        pytest.param(DAY, "2026-05-07T17:00:00Z", False, id="not at its end"),
        pytest.param(DAY, "2026-05-07T17:00:00+02:00", True, id="an instant written in another zone"),
        pytest.param(NIGHT, "2026-05-07T21:59:59Z", False, id="before the night"),
        pytest.param(NIGHT, "2026-05-07T22:00:00Z", True, id="the night begins"),
        pytest.param(NIGHT, "2026-05-07T23:59:59.999999Z", True, id="before midnight"),
        pytest.param(NIGHT, "2026-05-08T00:00:00Z", True, id="midnight"),
        pytest.param(NIGHT, "2026-05-08T05:59:59Z", True, id="the night's last second"),
        pytest.param(NIGHT, "2026-05-08T06:00:00Z", False, id="the night is over"),
        pytest.param(NIGHT, "2026-05-08T12:00:00Z", False, id="noon is no night"),
        pytest.param(UNTIL_MIDNIGHT, "2026-05-07T23:59:59Z", True, id="until midnight"),
        pytest.param(UNTIL_MIDNIGHT, "2026-05-08T00:00:00Z", False, id="not at midnight"),
        pytest.param(UNTIL_MIDNIGHT, "2026-05-07T17:59:59Z", False, id="before the evening"),
        pytest.param(FROM_MIDNIGHT, "2026-05-08T00:00:00Z", True, id="from midnight"),
        pytest.param(FROM_MIDNIGHT, "2026-05-07T23:59:59Z", False, id="before midnight of from midnight"),
        pytest.param(BERLIN, "2026-01-15T07:59:59Z", False, id="Berlin, winter, before"),
        pytest.param(BERLIN, "2026-01-15T08:00:00Z", True, id="Berlin, winter, start"),
        pytest.param(BERLIN, "2026-07-15T07:00:00Z", True, id="Berlin, summer, start"),
        pytest.param(BERLIN, "2026-07-15T15:00:00Z", False, id="Berlin, summer, end"),
        pytest.param(BERLIN_NIGHT, "2026-03-29T00:59:59Z", False, id="the second before the skipped hour"),
        pytest.param(BERLIN_NIGHT, "2026-03-29T01:00:00Z", False, id="the skipped hour is not there"),
        pytest.param(BERLIN_NIGHT, "2026-10-25T00:30:00Z", True, id="the doubled hour the first time"),
        pytest.param(BERLIN_NIGHT, "2026-10-25T01:30:00Z", True, id="the doubled hour the second time"),
        pytest.param(BERLIN_NIGHT, "2026-10-25T02:00:00Z", False, id="after the doubled hour"),
        pytest.param(KATHMANDU, "2026-05-07T03:14:59Z", False, id="an odd offset, before"),
        pytest.param(KATHMANDU, "2026-05-07T03:15:00Z", True, id="an odd offset, start"),
        pytest.param(AUCKLAND_NIGHT, "2026-01-15T09:00:00Z", True, id="the other side of the world, its night"),
        pytest.param(AUCKLAND_NIGHT, "2026-01-15T23:00:00Z", False, id="the other side of the world, its day"),
    ],
)  # fmt: skip
def test_a_time_of_day_is_by_the_clocks_of_its_zone(part: TimeOfDay, instant: str, inside: bool) -> None:
    assert part.contains(datetime.fromisoformat(instant)) is inside


def test_a_time_of_day_and_its_complement_cover_the_whole_day() -> None:
    night, day = window("22:00", "06:00", "Europe/Berlin"), window("06:00", "22:00", "Europe/Berlin")
    start = datetime(2026, 3, 28, tzinfo=UTC)
    for minutes in range(0, 3 * 24 * 60, 10):
        instant = start + timedelta(minutes=minutes)
        assert night.contains(instant) is not day.contains(instant)
