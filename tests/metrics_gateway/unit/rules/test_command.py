"""`metrics-gateway check-rules`: every violation is found, and nothing else."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from metrics_gateway.__main__ import run
from metrics_gateway.exposition.catalogue import exported_series
from metrics_gateway.exposition.registry import Exposition, encode
from metrics_gateway.sources.reading import Reading
from tests.metrics_gateway.scrapes import read_text
from tests.metrics_gateway.valid_responses import approval_response, incident_response
from tests.prometheus.alert_rules import RULES

ROOT = Path(__file__).parents[4]


def rule_file(path: Path, *rules: str) -> Path:
    """A rule file; the expression of rule n, from 0, is on line 4 + 2n."""
    text = "groups:\n  - name: mine\n    rules:\n"
    for number, rule in enumerate(rules):
        kind, _, expression = rule.rpartition(" <- ")
        text += f"      - {{{kind or f'alert: A{number}'}, expr: {json.dumps(expression)}}}\n\n"
    path.write_text(text, encoding="utf-8")
    return path


def checked(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[str], str]:
    """Exit code, lines on standard output, standard error."""
    code = run(["check-rules", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


def test_the_catalogue_has_exactly_the_exported_series() -> None:
    readings = [
        Reading(source, response, 0.25, 1.5, {})
        for source, response in (("incident", incident_response()), ("approval", approval_response()))
    ]
    text = encode(Exposition("1.2.3").registry(readings, with_process=False), "")[0].decode()
    samples = read_text(text).samples
    exported = {name: {label.name: label for label in labels} for name, labels in exported_series().items()}
    assert {name for name, _ in samples} == exported.keys()
    for name, labels in samples:
        assert {label for label, _ in labels} == exported[name].keys()
        assert [value for label, value in labels if not exported[name][label].takes(value)] == []


EXISTING = [
    pytest.param("awoooi_flywheel_incidents_stuck > 0", id="a series"),
    pytest.param('awoooi_flywheel_approvals{state="pending", job="x", instance!=""}', id="labels"),
    pytest.param('awoooi_flywheel_approvals{state=~"pend.*|approved", state!~"failed|other"}', id="patterns"),
    pytest.param('awoooi_flywheel_approvals{state=~"(?i)PENDING"}', id="a pattern with a flag"),
    pytest.param('awoooi_flywheel_approvals{state=~"\\\\pL+"}', id="a pattern that Python does not know"),
    pytest.param('awoooi_flywheel_source_up{source="incident-eu"}', id="a name from the configuration"),
    pytest.param('awoooi_flywheel_incident_resolution_seconds_bucket{le="60.0"}', id="a bucket"),
    pytest.param(
        "histogram_quantile(0.9, sum by (le) (rate(awoooi_flywheel_incident_resolution_seconds_bucket[1h])))",
        id="a quantile",
    ),
    pytest.param('{__name__=~"awoooi_flywheel_(incidents|approvals)", state="pending"}', id="names"),
    pytest.param('{__name__="awoooi_flywheel_approvals", state="pending"}', id="a name as a label"),
    pytest.param('{__name__=~".+", whatever="x"}', id="any name"),
    pytest.param('node_load1{mode="idle"} > awoooi_other_thing', id="series of other exporters"),
    pytest.param('sum by (mode) (node_cpu_seconds_total{mode="idle"})', id="labels of other exporters"),
    pytest.param('ALERTS{alertname="X", whatever="y"} and ALERTS_FOR_STATE', id="Prometheus's own"),
    pytest.param("max by (job, instance) (awoooi_flywheel_incidents_stuck)", id="target labels"),
    pytest.param("sum without (state) (awoooi_flywheel_approvals)", id="without"),
    pytest.param("topk by (state) (1, awoooi_flywheel_approvals) or vector(0)", id="topk keeps labels"),
    pytest.param(
        "sum by (state, team) (awoooi_flywheel_approvals * on (job) group_left (team) owner)",
        id="a label from another exporter",
    ),
    pytest.param(
        "awoooi_flywheel_approvals / ignoring (state) group_left sum without (state) (awoooi_flywheel_approvals)",
        id="ignoring",
    ),
    pytest.param(
        'sum by (kind) (label_replace(awoooi_flywheel_approvals, "kind", "$1", "state", "(.*)"))',
        id="a label that label_replace makes",
    ),
    pytest.param(
        'max by (n) (count_values without () ("n", awoooi_flywheel_approvals))', id="one of count_values"
    ),
    pytest.param("max_over_time(sum(awoooi_flywheel_approvals)[1h:5m] @ end() offset 1d)", id="a subquery"),
    pytest.param('absent(up{job="flywheel"} == 1)', id="absent"),
    pytest.param(
        "max(awoooi_flywheel_incidents_stuck) > 2 * scalar(awoooi_flywheel_execution_samples)", id="scalars"
    ),
]


@pytest.mark.parametrize("expression", EXISTING)
def test_existing_series_labels_and_values_pass(
    expression: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rule_file(tmp_path / "rules.yml", expression)
    assert checked(capsys, path) == (0, ["1 file, 1 rule: all series exist"], "")


MISSING = [
    pytest.param(
        "max(awoooi_flywheel_incident_stuck) > 0",
        "no series awoooi_flywheel_incident_stuck (is it awoooi_flywheel_incidents_stuck?)",
        id="a renamed series",
    ),
    pytest.param(
        "awoooi_flywheel_executions",
        "no series awoooi_flywheel_executions (is it awoooi_flywheel_executions_total?)",
        id="a counter without its suffix",
    ),
    pytest.param(
        "awoooi_flywheel_incident_resolution_seconds",
        "no series awoooi_flywheel_incident_resolution_seconds"
        " (is it awoooi_flywheel_incident_resolution_seconds_sum?)",
        id="a histogram by its family's name",
    ),
    pytest.param(
        'awoooi_flywheel_approvals{status="pending"}',
        "no label status in awoooi_flywheel_approvals (there: instance, job, state)",
        id="an unknown label",
    ),
    pytest.param(
        'awoooi_flywheel_resolve_deliveries{state="dead"}',
        'no state="dead" in awoooi_flywheel_resolve_deliveries (there: other, parked, pending)',
        id="a value outside the enum",
    ),
    pytest.param(
        'awoooi_flywheel_resolve_deliveries{state!="done"}',
        'no state="done" in awoooi_flywheel_resolve_deliveries (there: other, parked, pending)',
        id="an excluded value that cannot be",
    ),
    pytest.param(
        'awoooi_flywheel_resolve_deliveries{state=""}',
        'no state="" in awoooi_flywheel_resolve_deliveries (there: other, parked, pending)',
        id="a label required to be absent",
    ),
    pytest.param(
        'awoooi_flywheel_resolve_deliveries{state=~"pending|dead"}',
        'no state="dead" in awoooi_flywheel_resolve_deliveries (there: other, parked, pending)',
        id="one of several values",
    ),
    pytest.param(
        'awoooi_flywheel_resolve_deliveries{state=~"d.*d"}',
        'no state="d.*d" in awoooi_flywheel_resolve_deliveries (there: other, parked, pending)',
        id="a pattern that matches no value",
    ),
    pytest.param(
        'awoooi_flywheel_source_up{source="Incident"}',
        'no source="Incident" in awoooi_flywheel_source_up (there: names as in GATEWAY_SOURCES)',
        id="an invalid source name",
    ),
    pytest.param(
        'awoooi_flywheel_incident_resolution_seconds_bucket{le="60"}',
        'no le="60" in awoooi_flywheel_incident_resolution_seconds_bucket (there: bounds such as "60.0" or "+Inf")',
        id="a bound in another notation",
    ),
    pytest.param(
        '{__name__=~"awoooi_flywheel_stuck.*"}',
        "no series has a name like awoooi_flywheel_stuck.*",
        id="a pattern that matches no name",
    ),
    pytest.param(
        '{__name__=~"awoooi_flywheel_incidents|awoooi_flywheel_stuck"}',
        "no series has a name like awoooi_flywheel_stuck",
        id="one of several names",
    ),
    pytest.param(
        '{__name__=~"awoooi_flywheel_(incidents|approvals)", effect="webhook"}',
        "no label effect in awoooi_flywheel_approvals (there: instance, job, state)",
        id="a label that none of the names has",
    ),
    pytest.param(
        "sum by (status) (rate(awoooi_flywheel_executions_total[5m]))",
        "no label status in sum (there: instance, job, outcome)",
        id="by",
    ),
    pytest.param(
        "sum without (pod) (awoooi_flywheel_approvals)",
        "no label pod in sum (there: instance, job, state)",
        id="without",
    ),
    pytest.param(
        "sum by (state) (sum by (job) (awoooi_flywheel_approvals))",
        "no label state in sum (there: job)",
        id="a label that was aggregated away",
    ),
    pytest.param(
        "awoooi_flywheel_approvals * on (source) group_right awoooi_flywheel_source_up",
        "no label source in the left side of * (there: instance, job, state)",
        id="on",
    ),
    pytest.param(
        "awoooi_flywheel_approvals * ignoring (status) awoooi_flywheel_incidents",
        "no label status in either side of * (there: instance, job, state)",
        id="ignoring",
    ),
    pytest.param(
        "awoooi_flywheel_approvals * on (job) group_left (release) awoooi_flywheel_build_info",
        "no label release in what group_left takes from (there: instance, job, version)",
        id="group_left",
    ),
    pytest.param(
        "node_load1 * on (job) group_right (mood) awoooi_flywheel_approvals unless awoooi_flywheel_x",
        "no series awoooi_flywheel_x",
        id="ours and another exporter's",
    ),
    pytest.param(
        'label_replace(awoooi_flywheel_approvals, "x", "$1", "status", "(.*)")',
        "no label status in label_replace (there: instance, job, state)",
        id="label_replace",
    ),
    pytest.param(
        "histogram_quantile(0.9, sum(rate(awoooi_flywheel_incident_resolution_seconds_bucket[1h])))",
        "no label le in histogram_quantile (there: none)",
        id="a quantile without buckets",
    ),
    pytest.param(
        'awoooi_flywheel_approvals{state="pending" or state="approved"}',
        "Prometheus knows no `or` between label matchers",
        id="syntax of other databases",
    ),
]


@pytest.mark.parametrize(("expression", "reason"), MISSING)
def test_a_violation_names_file_line_and_rule(
    expression: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rule_file(tmp_path / "rules.yml", "up == 0", expression)
    assert checked(capsys, path) == (1, [f"{path}:6: A1: {reason}"], "")


@pytest.mark.parametrize("expression", ["max(awoooi_flywheel_approvals", "up ==", "rate(up)", "nope(up)", ""])
def test_invalid_promql_is_a_violation(
    expression: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rule_file(tmp_path / "rules.yml", "up == 0", expression)
    code, (line,), _ = checked(capsys, path)
    assert code == 1
    assert line.startswith(f"{path}:6: A1: not PromQL: ")


def test_a_violation_in_a_multi_line_expression_names_the_exact_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(
        "groups:\n- name: mine\n  rules:\n  - alert: Two\n    expr: |\n"
        "      awoooi_flywheel_incidents_stuck > 0\n        unless\n      awoooi_flywheel_stuck_at_all\n"
        "    annotations:\n      summary: all is lost\n      description: >-\n        in {{ $labels.effect }}\n"
    )
    code, lines, _ = checked(capsys, path)
    assert code == 1
    assert [line.removeprefix(f"{path}:").split(":")[0] for line in lines] == ["8", "12"]
    assert lines[1].endswith("Two: no label effect to be shown (there: instance, job)")


def test_a_recorded_series_exists_with_the_labels_of_its_expression_and_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rule_file(
        tmp_path / "rules.yml",
        'record: "awoooi_flywheel:waiting:sum", labels: {team: ops} <- sum by (state) (awoooi_flywheel_approvals)',
        'max by (state, team) (awoooi_flywheel:waiting:sum{team="ops"})',
        "max by (job) (awoooi_flywheel:waiting:sum)",
        "awoooi_flywheel:waited:sum",
    )
    assert checked(capsys, path) == (
        1,
        [
            f"{path}:8: A2: no label job in max (there: state, team)",
            f"{path}:10: A3: no series awoooi_flywheel:waited:sum (is it awoooi_flywheel:waiting:sum?)",
        ],
        "",
    )


def test_target_labels_can_be_given_as_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rule_file(tmp_path / "rules.yml", 'max by (pod) (awoooi_flywheel_approvals{cluster="eu"})')
    assert checked(capsys, path)[0] == 1
    assert checked(capsys, "--target-label=pod", "--target-label=cluster", path)[0] == 0


def test_rules_in_a_kubernetes_object_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "kind: PrometheusRule\nspec:\n  groups:\n  - name: g\n    rules:\n"
        "    - alert: A\n      expr: awoooi_flywheel_x\n---\n"
    )
    assert checked(capsys, path)[1] == [f"{path}:7: A: no series awoooi_flywheel_x"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        pytest.param("a.yml", "groups: [", "not YAML: ", id="no YAML"),
        pytest.param("a.yml", "a: &a [*a]\n", "not YAML that ends", id="endless YAML"),
        pytest.param("a.json", '{"panels": [}', "not JSON: ", id="no JSON"),
        pytest.param("a.json", '{"a": 1, "a": 2}', "not JSON: a key comes twice", id="a key twice"),
        pytest.param("a.yml", "scrape_configs: []\n", "neither Prometheus rules", id="another YAML"),
        pytest.param("a.yml", "groups:\n- rules:\n  - alert: X\n", "neither Prometheus rules", id="no expr"),
        pytest.param(
            "a.yml",
            "groups: [{rules: [{alert: X, expr: [up]}]}]",
            "neither Prometheus rules",
            id="a list as expr",
        ),
        pytest.param("a.json", "[1]", "neither Prometheus rules", id="another JSON"),
        pytest.param("a.yml", "groups: []\n", "no rules and no queries in it", id="no rules"),
        pytest.param("a.json", '{"panels": []}', "no rules and no queries in it", id="no panels"),
        pytest.param("a.yml", "", "no rules and no queries in it", id="nothing"),
        pytest.param("a.yml", "\udcff", "not UTF-8", id="other bytes"),
    ],
)
def test_an_unreadable_file_fails_the_check(
    name: str, text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode(errors="surrogateescape"))
    code, lines, errors = checked(capsys, RULES, path)
    assert (code, lines) == (2, [])
    assert errors.startswith(f"{path}: {reason}")
    assert errors.count("\n") == 1


def test_a_missing_file_is_reported_and_the_others_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rule_file(tmp_path / "rules.yml", "awoooi_flywheel_x")
    code, lines, errors = checked(capsys, tmp_path / "none.yml", path)
    assert (code, errors) == (2, f"{tmp_path / 'none.yml'}: No such file or directory\n")
    assert lines == [f"{path}:4: A0: no series awoooi_flywheel_x"]


def test_the_projects_own_rules_and_dashboards_pass(capsys: pytest.CaptureFixture[str]) -> None:
    files: Sequence[Path] = [RULES, *(ROOT / "deploy/grafana/dashboards").glob("*.json")]
    code, lines, errors = checked(capsys, *files)
    assert (code, len(lines), errors) == (0, 1, ""), lines


def test_serving_does_not_import_a_parser_for_rules() -> None:
    program = (
        "import sys, metrics_gateway.__main__; print({'promql_parser', 'yaml'} & set(sys.modules) or 'none')"
    )
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert asked.stdout == "none\n"


def test_help_documents_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(["check-rules", "--help"])
    printed = capsys.readouterr().out
    assert left.value.code == 0
    assert "FILE" in printed
    assert "Exit code: 0" in printed
