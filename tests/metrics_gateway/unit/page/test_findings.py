"""The findings of the page, and that their thresholds are those of the alert rules."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from awoooi.approval.v1.approval_pb2 import Delivery
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from awoooi.incident.v1.incident_pb2 import ResolutionType, SideEffect
from metrics_gateway.page.conditions import (
    MAX_APPROVAL_AGE_SECONDS,
    MAX_DELIVERY_AGE_SECONDS,
    MAX_NO_ACTION_POSTMORTEMS,
    MAX_RECOVERY_OVERDUE_SECONDS,
    MAX_SIDE_EFFECT_AGE_SECONDS,
    MIN_SUCCESS_RATE,
    Level,
)
from metrics_gateway.page.findings import Finding, find
from metrics_gateway.page.sections import merge
from metrics_gateway.sources.reading import Reading, Reason
from tests.metrics_gateway.page_responses import NOW, approvals_stuck, approvals_well, incidents_well
from tests.metrics_gateway.unit.page.readings import down, up
from tests.prometheus.alert_rules import rules

ROOT = Path(__file__).parents[4]

Change = Callable[[GetFlywheelStatsResponse], Any]


def loop(change: Change | None = None) -> GetFlywheelStatsResponse:
    """All sections from one source on a quiet day, with one change."""
    response = approvals_well()
    response.MergeFrom(incidents_well())
    if change:
        change(response)
    return response


def found(*readings: Reading) -> list[Finding]:
    return list(find(readings, merge(readings, NOW), NOW))


def _parked(response: GetFlywheelStatsResponse) -> None:
    response.deliveries.deliveries.add(state=Delivery.STATE_PARKED, count=2)


def _gap(executed: int, resolved: int, pending: int) -> Change:
    def change(response: GetFlywheelStatsResponse) -> None:
        response.executions.noop_executions_total = executed
        response.executions.noop_resolutions_total = resolved
        response.deliveries.deliveries.add(state=Delivery.STATE_PENDING, count=pending)

    return change


def _rate(successes: int, samples: int) -> Change:
    def change(response: GetFlywheelStatsResponse) -> None:
        response.executions.success_rate = successes / samples
        response.executions.successes, response.executions.samples = successes, samples

    return change


def _withheld(samples: int) -> Change:
    def change(response: GetFlywheelStatsResponse) -> None:
        response.executions.ClearField("success_rate")
        response.executions.samples = samples

    return change


def _postmortems(
    number: int, kind: ResolutionType.ValueType = ResolutionType.RESOLUTION_TYPE_NO_ACTION
) -> Change:
    def change(response: GetFlywheelStatsResponse) -> None:
        del response.resolutions.postmortems_24h[:]
        response.resolutions.postmortems_24h.add(resolution_type=kind, count=number)

    return change


def _of_topic(topic: int, *, parked: int = 0, oldest: float = 0) -> Change:
    def change(response: GetFlywheelStatsResponse) -> None:
        entry = response.deliveries.topics.add(oldest_pending_seconds=oldest)
        entry.topic = topic  # type: ignore[assignment] # maybe not in the enum yet
        entry.deliveries.add(state=Delivery.STATE_PARKED, count=parked)

    return change


def _oldest(section: str, seconds: float) -> Change:
    def change(response: GetFlywheelStatsResponse) -> None:
        getattr(response, section).oldest_pending_seconds = seconds

    return change


@pytest.mark.parametrize(
    ("change", "level", "text", "alert"),
    [
        pytest.param(
            lambda response: setattr(response.incidents, "stuck", 1),
            Level.WRONG,
            "1 incident is stuck",
            "FlywheelIncidentsStuckGrowing",
            id="stuck",
        ),
        pytest.param(
            _parked,
            Level.WRONG,
            "2 resolves are parked and will not be delivered",
            "FlywheelResolveDeliveryParked",
            id="a parked delivery",
        ),
        pytest.param(
            _oldest("deliveries", 301),
            Level.WRONG,
            "A resolve has waited for delivery for 5 min",
            "FlywheelResolveDeliveryOld",
            id="an old delivery",
        ),
        pytest.param(
            _of_topic(Delivery.TOPIC_TIMELINE, parked=1),
            Level.WRONG,
            "1 timeline entry is parked and will not be retried",
            "FlywheelDeliveryParked",
            id="a parked timeline entry",
        ),
        pytest.param(
            _of_topic(Delivery.TOPIC_EXECUTION, parked=2),
            Level.WRONG,
            "2 executions are parked and will not be retried",
            "FlywheelDeliveryParked",
            id="parked executions",
        ),
        pytest.param(
            _of_topic(Delivery.TOPIC_OTHER, parked=1),
            Level.WRONG,
            "1 job of another version is parked and will not be retried",
            "FlywheelDeliveryParked",
            id="a parked job of another version",
        ),
        pytest.param(
            _of_topic(77, parked=1),
            Level.WRONG,
            "1 job of another version is parked and will not be retried",
            "FlywheelDeliveryParked",
            id="a parked job of a topic that this gateway does not know",
        ),
        pytest.param(
            _of_topic(Delivery.TOPIC_TIMELINE, oldest=301),
            Level.WRONG,
            "One timeline entry has waited for 5 min",
            "FlywheelDeliveryOld",
            id="an old timeline entry",
        ),
        pytest.param(
            lambda response: response.side_effects.side_effects.add(
                effect=SideEffect.EFFECT_KNOWLEDGE, state=SideEffect.STATE_PARKED, count=1
            ),
            Level.WRONG,
            "1 side effect is parked and will not run",
            "FlywheelSideEffectParked",
            id="a parked side effect",
        ),
        pytest.param(
            _oldest("side_effects", 301),
            Level.WRONG,
            "A side effect has waited for 5 min",
            "FlywheelSideEffectOld",
            id="an old side effect",
        ),
        pytest.param(
            _rate(7, 10),
            Level.WRONG,
            "Only 7 of 10 repairs succeeded",
            "FlywheelExecutionRateLow",
            id="a low rate",
        ),
        pytest.param(
            _withheld(10),
            Level.WRONG,
            "There is no success rate, although there are 10 repairs",
            "FlywheelExecutionRateMissing",
            id="a missing rate",
        ),
        pytest.param(
            lambda response: setattr(response.recoveries, "verified", 36),
            Level.WATCH,
            "2 repairs did not help in 24 h",
            "FlywheelRepairNotRecovered",
            id="repairs that did not help",
        ),
        pytest.param(
            lambda response: setattr(response.recoveries, "overdue_seconds", 360),
            Level.WRONG,
            "Whether a repair has helped is overdue for 6 min",
            "FlywheelRecoveryOverdue",
            id="an overdue recovery",
        ),
        pytest.param(
            _gap(566, 0, 6),
            Level.WRONG,
            "560 NO_ACTION executions left their incident open",
            "FlywheelNoopResolutionGap",
            id="resolves that were never sent",
        ),
        pytest.param(
            lambda response: setattr(response.approvals, "incident_unknown", 26),
            Level.WRONG,
            "26 approvals point at incidents that do not exist",
            "FlywheelIncidentUnknown",
            id="unknown incidents",
        ),
        pytest.param(
            _oldest("approvals", 3_000),
            Level.WATCH,
            "An approval has waited for a decision for 50 min",
            "FlywheelApprovalWaiting",
            id="an old approval",
        ),
        pytest.param(
            _postmortems(21),
            Level.WATCH,
            "21 NO_ACTION postmortems were written in 24 h",
            "FlywheelNoActionPostmortemFlood",
            id="a flood of postmortems",
        ),
        pytest.param(
            lambda response: response.ClearField("side_effects"),
            Level.WATCH,
            "No source has stats of side effects",
            "",
            id="stats that no source has",
        ),
    ],
)
def test_each_condition_is_a_finding_with_level_and_alert(
    change: Change, level: Level, text: str, alert: str
) -> None:
    (finding,) = found(up("loop", loop(change)))
    assert (finding.level, finding.text.replace("\N{NO-BREAK SPACE}", " "), finding.alert) == (
        level,
        text,
        alert,
    )


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(None, id="a quiet day"),
        pytest.param(
            lambda response: setattr(response.recoveries, "overdue_seconds", 300), id="a recent recovery"
        ),
        pytest.param(_oldest("deliveries", 300), id="a recent delivery"),
        pytest.param(_oldest("side_effects", 300), id="a recent side effect"),
        pytest.param(_oldest("approvals", 1_800), id="a recent approval"),
        pytest.param(_rate(8, 10), id="a rate at the threshold"),
        pytest.param(_withheld(9), id="a withheld rate"),
        pytest.param(_gap(10, 7, 3), id="resolves that are pending"),
        pytest.param(_postmortems(20), id="postmortems within the limit"),
        pytest.param(
            _postmortems(99, ResolutionType.RESOLUTION_TYPE_HUMAN), id="many postmortems of repairs"
        ),
    ],
)
def test_values_within_the_thresholds_are_no_findings(change: Change | None) -> None:
    assert found(up("loop", loop(change))) == []


@pytest.mark.parametrize(
    ("failing", "text"),
    [
        pytest.param(Reason.UNAVAILABLE, "does not respond since 02:58:01 UTC", id="unavailable"),
        pytest.param(Reason.DEADLINE, "does not respond in time since 02:58:01 UTC", id="hung"),
        pytest.param(
            Reason.INVALID_RESPONSE, "returns an invalid response since 02:58:01 UTC", id="invalid response"
        ),
        pytest.param(Reason.UNIMPLEMENTED, "has no stats since 02:58:01 UTC", id="another program"),
        pytest.param(Reason.PERMISSION, "denies this gateway access since 02:58:01 UTC", id="permission"),
        pytest.param(Reason.INTERNAL, "fails since 02:58:01 UTC", id="internal error"),
        pytest.param(Reason.OTHER, "fails since 02:58:01 UTC", id="other"),
        pytest.param(None, "has not responded yet", id="request still in flight"),
    ],
)
def test_a_source_that_is_down_is_one_finding(failing: Reason | None, text: str) -> None:
    (finding,) = found(up("approval", approvals_well()), down("incident", failing))
    assert finding == Finding(Level.WRONG, f"The incident service {text}", "sources", "FlywheelSourceDown")


def test_findings_are_sorted_by_level_and_the_sort_is_stable() -> None:
    response = approvals_stuck()
    response.executions.noop_resolutions_total = response.executions.noop_executions_total
    findings = found(up("approval", response), down("incident"))
    assert [finding.alert for finding in findings] == [
        "FlywheelSourceDown",
        "FlywheelResolveDeliveryParked",
        "FlywheelResolveDeliveryOld",
        "FlywheelApprovalWaiting",
    ]


@pytest.mark.parametrize(
    ("alert", "threshold"),
    [
        ("FlywheelExecutionRateLow", MIN_SUCCESS_RATE),
        ("FlywheelResolveDeliveryOld", MAX_DELIVERY_AGE_SECONDS),
        ("FlywheelResolveDeliveryParked", 0),
        ("FlywheelDeliveryOld", MAX_DELIVERY_AGE_SECONDS),
        ("FlywheelDeliveryParked", 0),
        ("FlywheelSideEffectOld", MAX_SIDE_EFFECT_AGE_SECONDS),
        ("FlywheelSideEffectParked", 0),
        ("FlywheelApprovalWaiting", MAX_APPROVAL_AGE_SECONDS),
        ("FlywheelNoActionPostmortemFlood", MAX_NO_ACTION_POSTMORTEMS),
        ("FlywheelNoopResolutionGap", 0),
        ("FlywheelIncidentUnknown", 0),
        ("FlywheelRepairNotRecovered", 0),
        ("FlywheelRecoveryOverdue", MAX_RECOVERY_OVERDUE_SECONDS),
        ("FlywheelSourceDown", None),
        ("FlywheelIncidentsStuckGrowing", None),
        ("FlywheelExecutionRateMissing", None),
    ],
)
def test_the_alert_rule_has_the_same_threshold(alert: str, threshold: float | None) -> None:
    expression = rules()[alert]["expr"]
    if threshold is not None:
        assert float(re.findall(r"[<>]\s*([\d.]+)", expression)[0]) == threshold


def test_every_alert_named_on_the_page_is_in_the_table_above() -> None:
    source = (ROOT / "services/metrics-gateway/src/metrics_gateway/page/findings.py").read_text(
        encoding="utf-8"
    )
    named = set(re.findall(r'"(Flywheel\w+)"', source))
    (marker,) = [
        mark
        for mark in getattr(test_the_alert_rule_has_the_same_threshold, "pytestmark")  # noqa: B009
        if mark.name == "parametrize"
    ]
    assert named == {alert for alert, _ in marker.args[1]}
