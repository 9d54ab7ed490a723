"""What the page calls wrong, and that the alert rules call the same wrong."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from awoooi.approval.v1.approval_pb2 import Delivery
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from awoooi.incident.v1.incident_pb2 import ResolutionType, SideEffect
from metrics_gateway.page.findings import (
    LOWEST_RATE,
    MOST_NO_ACTION_POSTMORTEMS,
    OLDEST_APPROVAL_SECONDS,
    OLDEST_DELIVERY_SECONDS,
    OLDEST_SIDE_EFFECT_SECONDS,
    Finding,
    Level,
    find,
)
from metrics_gateway.page.sections import merge
from metrics_gateway.sources.source import Reading, Reason
from tests.metrics_gateway.page_answers import NOW, approvals_stuck, approvals_well, incidents_well

ROOT = Path(__file__).parents[4]
RULES = ROOT / "deploy/prometheus/rules/flywheel.yml"

Change = Callable[[GetFlywheelStatsResponse], Any]


def loop(change: Change | None = None) -> GetFlywheelStatsResponse:
    """Everything, from one source, on a quiet day but for the change."""
    answer = approvals_well()
    answer.MergeFrom(incidents_well())
    if change:
        change(answer)
    return answer


def found(*readings: Reading) -> list[Finding]:
    return list(find(readings, merge(readings, NOW), NOW))


def reading(
    answer: GetFlywheelStatsResponse | None, source: str = "loop", failing: Reason | None = None
) -> Reading:
    since = datetime(2026, 5, 7, 2, 58, 1, tzinfo=UTC)
    return Reading(source, answer, 0.1, NOW.timestamp(), {}, failing, since.timestamp())


def _parked(answer: GetFlywheelStatsResponse) -> None:
    answer.deliveries.deliveries.add(state=Delivery.STATE_PARKED, count=2)


def _gap(executed: int, resolved: int, pending: int) -> Change:
    def change(answer: GetFlywheelStatsResponse) -> None:
        answer.executions.noop_executions_total = executed
        answer.executions.noop_resolutions_total = resolved
        answer.deliveries.deliveries.add(state=Delivery.STATE_PENDING, count=pending)

    return change


def _rate(successes: int, samples: int) -> Change:
    def change(answer: GetFlywheelStatsResponse) -> None:
        answer.executions.success_rate = successes / samples
        answer.executions.successes, answer.executions.samples = successes, samples

    return change


def _withheld(samples: int) -> Change:
    def change(answer: GetFlywheelStatsResponse) -> None:
        answer.executions.ClearField("success_rate")
        answer.executions.samples = samples

    return change


def _postmortems(
    number: int, kind: ResolutionType.ValueType = ResolutionType.RESOLUTION_TYPE_NO_ACTION
) -> Change:
    def change(answer: GetFlywheelStatsResponse) -> None:
        del answer.resolutions.postmortems_24h[:]
        answer.resolutions.postmortems_24h.add(resolution_type=kind, count=number)

    return change


def _oldest(section: str, seconds: float) -> Change:
    def change(answer: GetFlywheelStatsResponse) -> None:
        getattr(answer, section).oldest_pending_seconds = seconds

    return change


@pytest.mark.parametrize(
    ("change", "level", "text", "alert"),
    [
        pytest.param(
            lambda answer: setattr(answer.incidents, "stuck", 1),
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
            lambda answer: answer.side_effects.side_effects.add(
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
            "Only 7 of 10 repairs worked",
            "FlywheelExecutionRateLow",
            id="a low rate",
        ),
        pytest.param(
            _withheld(10),
            Level.WRONG,
            "There is no success rate, although there are 10 repairs",
            "FlywheelExecutionRateMissing",
            id="a rate that is missing",
        ),
        pytest.param(
            _gap(566, 0, 6),
            Level.WRONG,
            "560 NO_ACTION executions left their incident open",
            "FlywheelNoopResolutionGap",
            id="resolves that nobody sent",
        ),
        pytest.param(
            _oldest("approvals", 3_000),
            Level.WATCH,
            "An approval has waited for a decision for 50 min",
            "FlywheelApprovalWaiting",
            id="an approval that waits",
        ),
        pytest.param(
            _postmortems(21),
            Level.WATCH,
            "21 NO_ACTION postmortems were written in 24 h",
            "FlywheelNoActionPostmortemFlood",
            id="a flood of postmortems",
        ),
        pytest.param(
            lambda answer: answer.ClearField("side_effects"),
            Level.WATCH,
            "No source keeps figures about side effects",
            "",
            id="figures that nobody keeps",
        ),
    ],
)
def test_what_is_wrong_is_found(change: Change, level: Level, text: str, alert: str) -> None:
    (finding,) = found(reading(loop(change)))
    assert (finding.level, finding.text.replace("\N{NO-BREAK SPACE}", " "), finding.alert) == (
        level,
        text,
        alert,
    )


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(None, id="a quiet day"),
        pytest.param(_oldest("deliveries", 300), id="a delivery that is still young"),
        pytest.param(_oldest("side_effects", 300), id="a side effect that is still young"),
        pytest.param(_oldest("approvals", 1_800), id="an approval within its time"),
        pytest.param(_rate(8, 10), id="a rate that is good enough"),
        pytest.param(_withheld(9), id="a rate that is withheld"),
        pytest.param(_gap(10, 7, 3), id="resolves on their way"),
        pytest.param(_postmortems(20), id="postmortems within the limit"),
        pytest.param(
            _postmortems(99, ResolutionType.RESOLUTION_TYPE_HUMAN), id="many postmortems of repairs"
        ),
    ],
)
def test_what_is_not_wrong_is_not_found(change: Change | None) -> None:
    assert found(reading(loop(change))) == []


@pytest.mark.parametrize(
    ("failing", "text"),
    [
        pytest.param(Reason.UNAVAILABLE, "does not answer since 02:58:01 UTC", id="unavailable"),
        pytest.param(Reason.DEADLINE, "does not answer in time since 02:58:01 UTC", id="hung"),
        pytest.param(
            Reason.INVALID_ANSWER, "answers what cannot be believed since 02:58:01 UTC", id="nonsense"
        ),
        pytest.param(Reason.UNIMPLEMENTED, "keeps no figures since 02:58:01 UTC", id="something else"),
        pytest.param(
            Reason.PERMISSION, "does not let this gateway read since 02:58:01 UTC", id="not allowed"
        ),
        pytest.param(Reason.INTERNAL, "fails since 02:58:01 UTC", id="a bug over there"),
        pytest.param(Reason.OTHER, "fails since 02:58:01 UTC", id="anything else"),
        pytest.param(None, "has not answered yet", id="slow for the first time"),
    ],
)
def test_a_source_that_is_down_is_one_thing_that_is_wrong(failing: Reason | None, text: str) -> None:
    (finding,) = found(reading(approvals_well(), "approval"), reading(None, "incident", failing))
    assert finding == Finding(Level.WRONG, f"The incident service {text}", "sources", "FlywheelSourceDown")


def test_the_worst_comes_first_and_what_is_equally_bad_stays_in_its_order() -> None:
    answer = approvals_stuck()
    answer.executions.noop_resolutions_total = answer.executions.noop_executions_total
    findings = found(reading(answer, "approval"), reading(None, "incident", Reason.UNAVAILABLE))
    assert [finding.alert for finding in findings] == [
        "FlywheelSourceDown",
        "FlywheelResolveDeliveryParked",
        "FlywheelResolveDeliveryOld",
        "FlywheelApprovalWaiting",
    ]


@pytest.mark.parametrize(
    ("alert", "threshold"),
    [
        ("FlywheelExecutionRateLow", LOWEST_RATE),
        ("FlywheelResolveDeliveryOld", OLDEST_DELIVERY_SECONDS),
        ("FlywheelResolveDeliveryParked", 0),
        ("FlywheelSideEffectOld", OLDEST_SIDE_EFFECT_SECONDS),
        ("FlywheelSideEffectParked", 0),
        ("FlywheelApprovalWaiting", OLDEST_APPROVAL_SECONDS),
        ("FlywheelNoActionPostmortemFlood", MOST_NO_ACTION_POSTMORTEMS),
        ("FlywheelNoopResolutionGap", 0),
        ("FlywheelSourceDown", None),
        ("FlywheelIncidentsStuckGrowing", None),
        ("FlywheelExecutionRateMissing", None),
    ],
)
def test_the_alert_of_that_name_has_the_same_threshold(alert: str, threshold: float | None) -> None:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    (rule,) = [rule for group in groups for rule in group["rules"] if rule.get("alert") == alert]
    if threshold is not None:
        assert float(re.findall(r"[<>]\s*([\d.]+)", rule["expr"])[0]) == threshold


def test_every_alert_that_the_page_names_is_in_the_table_above() -> None:
    source = (ROOT / "services/metrics-gateway/src/metrics_gateway/page/findings.py").read_text(
        encoding="utf-8"
    )
    named = set(re.findall(r'"(Flywheel\w+)"', source))
    (marker,) = [
        mark
        for mark in getattr(test_the_alert_of_that_name_has_the_same_threshold, "pytestmark")  # noqa: B009
        if mark.name == "parametrize"
    ]
    assert named == {alert for alert, _ in marker.args[1]}
