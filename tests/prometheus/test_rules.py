"""The alert rules: valid, complete, each with its unit tests for promtool."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from alert_intake.incidents.metrics import IntakeMetrics
from tests.prometheus.alert_rules import ALERTS, PROMETHEUS, RULES, rules
from tests.prometheus.programs import CURRENT, MAJOR_VERSIONS, promtool

ROOT = Path(__file__).parents[2]
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
# They do not depend on stats of a source; certificates are those of the process itself, and so are the series of an intake.
OF_INTAKE = {alert for alert in ALERTS if alert.startswith("FlywheelAlert")}
WITHOUT_STATS = {"FlywheelWatchdog", "FlywheelGatewayAbsent", "FlywheelCertificateExpiring", *OF_INTAKE}


def run_promtool(major: int, *arguments: str | Path) -> None:
    done = subprocess.run(
        [promtool(major), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def expectations() -> Iterator[tuple[str, bool]]:
    """The expectations of the unit tests: the name of an alert, and whether it fires."""
    for path in UNIT_TESTS:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for case in test.get("alert_rule_test", ()):
                yield case["alertname"], bool(case["exp_alerts"])


def test_there_is_exactly_one_rule_for_each_alert() -> None:
    assert rules().keys() == ALERTS


@pytest.mark.parametrize("major", MAJOR_VERSIONS)
def test_promtool_accepts_the_rules(major: int) -> None:
    run_promtool(major, "check", "rules", RULES)


@pytest.mark.parametrize("major", MAJOR_VERSIONS)
def test_promtool_accepts_the_configuration_and_it_loads_the_rules(major: int) -> None:
    path = PROMETHEUS / "prometheus.yml"
    # Not whether there are the files that it names: those are the deployment's.
    run_promtool(major, "check", "config", "--syntax-only", path)
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))["rule_files"]
    assert [path.parent / each for each in loaded] == sorted((PROMETHEUS / "rules").glob("*.yml"))


@pytest.mark.parametrize("major", MAJOR_VERSIONS)
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_promtool_unit_tests_pass(path: Path, major: int) -> None:
    run_promtool(major, "test", "rules", path)


def test_docker_compose_runs_a_pinned_version_of_the_current_major() -> None:
    image = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"][
        "prometheus"
    ]["image"]
    assert re.fullmatch(rf"prom/prometheus:v{CURRENT}\.\d+\.\d+", image)


def test_every_alert_has_unit_tests_firing_and_not_firing() -> None:
    expected = {(alert, fires) for alert in ALERTS for fires in (True, False)}
    assert expected - set(expectations()) == {("FlywheelWatchdog", False)}


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_every_alert_has_severity_texts_and_runbook_url(alert: str) -> None:
    rule = rules()[alert]
    annotations = rule["annotations"]
    assert rule["labels"]["severity"] in ("critical", "warning", "info", "none")
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"docs/runbook.md#{alert.lower()}"
    assert not annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")


@pytest.mark.parametrize("alert", sorted(OF_INTAKE))
def test_an_alert_about_the_intake_uses_series_and_values_that_it_exports(alert: str) -> None:
    registry = CollectorRegistry()
    IntakeMetrics(registry)
    exported = {
        (sample.name, name, value)
        for family in registry.collect()
        for sample in family.samples
        for name, value in {"": "", **sample.labels}.items()
    }
    used = re.findall(r"(alert_intake_\w+)(?:\{(\w+)=\"([^\"]*)\")?", rules()[alert]["expr"])
    assert used
    assert set(used) <= exported


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_keeps_firing_itself_while_its_stats_are_absent(alert: str) -> None:
    held = re.findall(r'ALERTS\{alertname="(\w+)", alertstate="firing"\}', rules()[alert]["expr"])
    assert held == ([] if alert in WITHOUT_STATS else [alert])
