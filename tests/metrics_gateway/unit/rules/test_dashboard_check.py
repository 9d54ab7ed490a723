"""`metrics-gateway check-rules` over Grafana dashboards."""

import json
from pathlib import Path
from typing import Any

import pytest

from metrics_gateway.__main__ import run

PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}


def panel(expression: str, **fields: Any) -> dict[str, Any]:
    target = {"expr": expression, "refId": "A"} | fields
    return {"title": "Stuck", "datasource": PROMETHEUS, "targets": [target]}


def variable(query: Any) -> dict[str, Any]:
    return {"name": "v", "type": "query", "datasource": PROMETHEUS, "query": query}


def violations(path: Path, capsys: pytest.CaptureFixture[str], dashboard: Any) -> list[str]:
    path.write_text(json.dumps(dashboard, indent=2), encoding="utf-8")
    code = run(["check-rules", str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert code == (0 if lines[-1].endswith("all series exist") else 1), lines
    return [line.removeprefix(f"{path}:") for line in lines]


@pytest.mark.parametrize(
    "expression",
    [
        "sum by (outcome) (rate(awoooi_flywheel_executions_total[$__rate_interval]))",
        "max_over_time(awoooi_flywheel_incidents_stuck[$__range:$__interval])",
        "max_over_time(awoooi_flywheel_incidents_stuck[${window}:] offset $shift)",
        "max_over_time(awoooi_flywheel_incidents_stuck[${hours}h])",
        "max_over_time(awoooi_flywheel_incidents_stuck[[[window]]])",
        'awoooi_flywheel_approvals{state=~"$state", job=~"${job:regex}"}',
        'awoooi_flywheel_approvals{state=~"pending|$state"}',
        "topk($number, awoooi_flywheel_approvals)",
        "awoooi_flywheel_incidents_stuck > $threshold",
        "sum by ($by) (awoooi_flywheel_approvals)",
        "$metric{job='x'}",
        "awoooi_flywheel_${what}",
        'awoooi_flywheel_${what}{state="pending"}',
        "sum by (state) (awoooi_flywheel_resolve_$what)",
        "rate(awoooi_flywheel_[[what]]_total[5m])",
        "${prefix}_stuck",
        "rate(awoooi_flywheel_executions_total[5m]) * $__interval_ms / 1000",
        'label_replace(awoooi_flywheel_approvals, "kind", "$1", "state", "(.*)")',
    ],
)
def test_grafana_variables_are_substituted_with_possible_values(
    expression: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = violations(tmp_path / "d.json", capsys, {"panels": [panel(expression)]})
    assert lines == ["1 file, 1 dashboard query: all series exist"]


@pytest.mark.parametrize(
    "dashboard",
    [
        pytest.param({"panels": [panel("awoooi_flywheel_x")]}, id="a panel"),
        pytest.param({"panels": [{"type": "row", "panels": [panel("awoooi_flywheel_x")]}]}, id="a row"),
        pytest.param({"rows": [{"panels": [panel("awoooi_flywheel_x")]}]}, id="a row in the old format"),
        pytest.param(
            {"kind": "Dashboard", "spec": {"panels": [panel("awoooi_flywheel_x")]}},
            id="a resource of Grafana",
        ),
        pytest.param({"dashboard": {"panels": [panel("awoooi_flywheel_x")]}}, id="in the API's format"),
        pytest.param(
            {"panels": [panel("awoooi_flywheel_x") | {"datasource": None}]}, id="the default source"
        ),
        pytest.param(
            {"panels": [panel("awoooi_flywheel_x") | {"datasource": "Prometheus"}]}, id="a source by name"
        ),
        pytest.param({"panels": [panel("rate(awoooi_flywheel_x[$__rate_interval])")]}, id="with variables"),
        pytest.param(
            {"templating": {"list": [variable("label_values(awoooi_flywheel_x, job)")]}}, id="label_values"
        ),
        pytest.param(
            {"templating": {"list": [variable({"query": "query_result(awoooi_flywheel_x)"})]}},
            id="query_result in an object",
        ),
        pytest.param({"templating": {"list": [variable("awoooi_flywheel_x")]}}, id="a plain variable"),
        pytest.param(
            {"annotations": {"list": [{"name": "n", "datasource": PROMETHEUS, "expr": "awoooi_flywheel_x"}]}},
            id="an annotation",
        ),
        pytest.param(
            {"annotations": {"list": [{"name": "n", "target": {"expr": "awoooi_flywheel_x"}}]}},
            id="an annotation's target",
        ),
    ],
)
def test_queries_are_found_in_every_part_of_a_dashboard(
    dashboard: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = violations(tmp_path / "d.json", capsys, dashboard)
    number, _, text = line.partition(": ")
    assert text.endswith(": no series awoooi_flywheel_x")
    assert "awoooi_flywheel_x" in (tmp_path / "d.json").read_text().splitlines()[int(number) - 1]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("label_values(awoooi_flywheel_approvals, status)", "no label status in count"),
        (
            'label_values(awoooi_flywheel_approvals{state="x"}, state)',
            'no state="x" in awoooi_flywheel_approvals',
        ),
        ("metrics(awoooi_flywheel_stuck.*)", "no series has a name like awoooi_flywheel_stuck.*"),
        ("label_values(awoooi_flywheel_approvals{, job)", "not PromQL"),
    ],
)
def test_the_query_of_a_variable_is_checked(
    query: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = violations(tmp_path / "d.json", capsys, {"templating": {"list": [variable(query)]}})
    assert reason in line
    assert "variable v" in line


def test_a_variable_in_a_name_that_no_series_has_is_a_violation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dashboard = {"panels": [panel("awoooi_flywheel_${what}_percent")]}
    (line,) = violations(tmp_path / "d.json", capsys, dashboard)
    assert line.endswith("no series has a name like awoooi_flywheel_.*_percent")


def test_variables_without_series_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queries = ["label_values(job)", "label_names()", "metrics(node_.*)", "label_values(node_load1, instance)"]
    others = [
        {"name": "i", "type": "interval", "query": "1m,10m"},
        {
            "name": "s",
            "type": "query",
            "datasource": {"type": "postgres"},
            "query": "SELECT awoooi_flywheel_x",
        },
    ]
    dashboard = {"templating": {"list": [*map(variable, queries), *others]}}
    assert violations(tmp_path / "d.json", capsys, dashboard) == [
        "1 file, 2 dashboard queries: all series exist"
    ]


def test_the_labels_of_a_legend_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expression = "sum by (state) (awoooi_flywheel_approvals)"
    (line,) = violations(
        tmp_path / "d.json", capsys, {"panels": [panel(expression, legendFormat="{{state}} {{ job }}")]}
    )
    assert line.endswith('panel "Stuck": no label job to be shown (there: state)')


def test_queries_of_other_data_sources_are_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = panel('{app="x"} |= "awoooi_flywheel_x"', datasource={"type": "loki", "uid": "l"})
    lines = violations(tmp_path / "d.json", capsys, {"panels": [logs, panel("up")]})
    assert lines == ["1 file, 1 dashboard query: all series exist"]


MIXED = {"type": "datasource", "uid": "-- Mixed --"}


@pytest.mark.parametrize(
    "datasource",
    [{"type": "loki", "uid": "l"}, {"uid": "l"}, "Logs", None],
    ids=["of a type", "by its uid", "by its name", "of no source"],
)
def test_queries_in_other_languages_in_a_mixed_panel_are_ignored(
    datasource: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = {"expr": '{app="x"} |= "error" | json', "datasource": datasource}
    ours = {"expr": "awoooi_flywheel_x", "datasource": PROMETHEUS}
    mixed = {"title": "Both", "datasource": MIXED, "targets": [logs, ours]}
    (line,) = violations(tmp_path / "d.json", capsys, {"panels": [mixed]})
    assert line.endswith('panel "Both": no series awoooi_flywheel_x')


def test_invalid_promql_for_prometheus_is_a_violation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = violations(tmp_path / "d.json", capsys, {"panels": [panel("max(awoooi_flywheel_approvals")]})
    assert "not PromQL" in line
