"""The alert rules: valid, complete, each with its unit tests for promtool."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus.programs import promtool

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RULES = PROMETHEUS / "rules/flywheel.yml"
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))

ALERTS = {
    "FlywheelExecutionRateMissing",
    "FlywheelExecutionRateTooFewSamples",
    "FlywheelExecutionRateLow",
    "FlywheelIncidentsStuckGrowing",
    "FlywheelNoopResolutionGap",
    "FlywheelResolveDeliveryOld",
    "FlywheelResolveDeliveryParked",
    "FlywheelSideEffectOld",
    "FlywheelSideEffectParked",
    "FlywheelNoActionPostmortemFlood",
    "FlywheelApprovalWaiting",
    "FlywheelSourceDown",
    "FlywheelGatewayAbsent",
    "FlywheelWatchdog",
}
# What they are about is not taken away with a source or the gateway.
NEED_NO_FIGURES = {"FlywheelWatchdog", "FlywheelGatewayAbsent"}


def rules() -> Mapping[str, Mapping[str, Any]]:
    """The alert rules by name."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def run_promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [promtool(), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def expectations() -> Iterator[tuple[str, bool]]:
    """What the unit tests expect: an alert's name and whether it fires."""
    for path in UNIT_TESTS:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for case in test.get("alert_rule_test", ()):
                yield case["alertname"], bool(case["exp_alerts"])


def test_there_is_a_rule_for_each_alert_and_no_other() -> None:
    assert rules().keys() == ALERTS


def test_promtool_accepts_the_rules() -> None:
    run_promtool("check", "rules", RULES)


def test_promtool_accepts_the_configuration_and_it_loads_the_rules() -> None:
    path = PROMETHEUS / "prometheus.yml"
    run_promtool("check", "config", path)
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))["rule_files"]
    assert [path.parent / each for each in loaded] == sorted((PROMETHEUS / "rules").glob("*.yml"))


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_unit_tests_say(path: Path) -> None:
    run_promtool("test", "rules", path)


def test_for_each_alert_a_unit_test_says_when_it_fires_and_one_when_not() -> None:
    expected = {(alert, fires) for alert in ALERTS for fires in (True, False)}
    assert expected - set(expectations()) == {("FlywheelWatchdog", False)}


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(alert: str) -> None:
    rule = rules()[alert]
    annotations = rule["annotations"]
    assert rule["labels"]["severity"] in ("critical", "warning", "info", "none")
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"docs/runbook.md#{alert.lower()}"
    assert not annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_that_needs_figures_holds_itself_and_no_other_without_them(alert: str) -> None:
    held = re.findall(r'ALERTS\{alertname="(\w+)", alertstate="firing"\}', rules()[alert]["expr"])
    assert held == ([] if alert in NEED_NO_FIGURES else [alert])
