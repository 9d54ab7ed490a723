"""`metrics-gateway check-rules`: the expressions that pass, and those that are violations."""

from pathlib import Path

import pytest

from tests.metrics_gateway.unit.rules.rule_files import checked, rule_file

EXISTING = [
    pytest.param("awoooi_flywheel_incidents_stuck > 0", id="a series"),
    pytest.param('awoooi_flywheel_approvals{state="pending", job="x", instance!=""}', id="labels"),
    pytest.param('awoooi_flywheel_approvals{state=~"pend.*|approved", state!~"failed|other"}', id="patterns"),
    pytest.param('awoooi_flywheel_approvals{state=~"(?i)PENDING"}', id="a pattern with a flag"),
    pytest.param('awoooi_flywheel_approvals{state=~"\\\\pL+"}', id="a pattern that Python does not know"),
    pytest.param('awoooi_flywheel_approvals{state=~"[[:alpha:]]+"}', id="a class of characters"),
    pytest.param('awoooi_flywheel_approvals{state=~"[[:^digit:]]+"}', id="a class that is excluded"),
    pytest.param("awoooi_flywheel_incidents_stuck > 1_000.5_0", id="a number with separators"),
    pytest.param('awoooi_flywheel_source_up{source="eu_1_000"} == 1', id="digits in a string"),
    pytest.param('awoooi_flywheel_incident_resolution_seconds_bucket{le=~"60.0|[+]Inf"}', id="buckets"),
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
    pytest.param('identity_source_usable{source="jwks", job="x"} == 0', id="a series about identities"),
    pytest.param(
        'tls_certificate_expiry_timestamp_seconds{file="/run/tls.crt"}', id="one about certificates"
    ),
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
        "min(identity_source_useable) == 0",
        "no series identity_source_useable (is it identity_source_usable?)",
        id="a series about identities that does not exist",
    ),
    pytest.param(
        'identity_source_usable{source="keys"} == 0',
        'no source="keys" in identity_source_usable (there: jwks, other, roles, tokens)',
        id="an identity source that does not exist",
    ),
    pytest.param(
        "tls_certificate_expiry_seconds - time() < 60",
        "no series tls_certificate_expiry_seconds (is it tls_certificate_expiry_timestamp_seconds?)",
        id="a series about certificates that does not exist",
    ),
    pytest.param(
        'awoooi_flywheel_source_up{source="Incident"}',
        'no source="Incident" in awoooi_flywheel_source_up (there: names as in GATEWAY_SOURCES)',
        id="an invalid source name",
    ),
    pytest.param(
        'awoooi_flywheel_incident_resolution_seconds_bucket{le="60"}',
        'no le="60" in awoooi_flywheel_incident_resolution_seconds_bucket (there: 60.0, 300.0, 900.0,'
        " 1800.0, 3600.0, 14400.0, 43200.0, 86400.0, 259200.0, 604800.0, +Inf)",
        id="a bound in another notation",
    ),
    pytest.param(
        'awoooi_flywheel_incident_resolution_seconds_bucket{le="61.0"}',
        'no le="61.0" in awoooi_flywheel_incident_resolution_seconds_bucket (there: 60.0, 300.0, 900.0,'
        " 1800.0, 3600.0, 14400.0, 43200.0, 86400.0, 259200.0, 604800.0, +Inf)",
        id="a bound that no bucket has",
    ),
    pytest.param(
        'awoooi_flywheel_approvals{state=~"[[:digit:]]+"}',
        'no state="[[:digit:]]+" in awoooi_flywheel_approvals'
        " (there: approved, cancelled, executing, expired, failed, indeterminate, other, pending, rejected, succeeded)",
        id="a class of characters that no value has",
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
