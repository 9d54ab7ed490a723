"""`metrics-gateway check-rules`: every violation is found, and nothing else."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from incident import counters
from metrics_gateway.__main__ import run
from metrics_gateway.exposition import catalogue
from metrics_gateway.exposition.catalogue import exported_series, process_series
from metrics_gateway.exposition.negotiation import DEFAULT
from metrics_gateway.exposition.registry import Exposition, encode
from metrics_gateway.settings import GatewaySettings
from metrics_gateway.sources.reading import Reading
from servicekit.http.limits import HttpRefusals
from servicekit.identity.authentication import open_authentication
from servicekit.identity.certificate_store import CertificateStore
from servicekit.identity.settings import IdentitySettings
from tests.authority import authority
from tests.credentials import AUDIENCE, ISSUER, TokenFile, ec_key, jwk, jwks
from tests.metrics_gateway.scrapes import read_text
from tests.metrics_gateway.unit.rules.rule_files import checked, rule_file
from tests.metrics_gateway.valid_responses import approval_response, incident_response
from tests.prometheus.alert_rules import RULES

ROOT = Path(__file__).parents[4]


def test_the_catalogue_has_exactly_the_exported_series() -> None:
    readings = [
        Reading(source, response, 0.25, 1.5, {})
        for source, response in (("incident", incident_response()), ("approval", approval_response()))
    ]
    text = encode(Exposition("1.2.3", [HttpRefusals()]).registry(readings, with_process=False), DEFAULT)[
        0
    ].decode()
    samples = read_text(text).samples
    exported = {name: {label.name: label for label in labels} for name, labels in exported_series().items()}
    assert {name for name, _ in samples} == exported.keys()
    for name, labels in samples:
        assert {label for label, _ in labels} == exported[name].keys()
        assert [value for label, value in labels if not exported[name][label].takes(value)] == []


def test_the_catalogue_has_what_a_process_exports_about_its_identities_and_certificates(
    tmp_path: Path,
) -> None:
    registry = CollectorRegistry()
    tokens, keys = tmp_path / "tokens.json", tmp_path / "jwks.json"
    TokenFile(tokens)
    keys.write_bytes(jwks(jwk(ec_key())))
    settings = IdentitySettings(
        tokens_file=tokens, oidc_issuer=ISSUER, oidc_audience=AUDIENCE, oidc_jwks_file=keys
    )
    open_authentication(settings, registry)
    certificates = CertificateStore()
    pair = authority().sign("localhost").write(tmp_path, "tls")
    certificates.open(
        GatewaySettings(tls_cert_file=pair[0], tls_key_file=pair[1]),
        certificate="tls_cert_file",
        key="tls_key_file",
        authorities="tls_client_ca_file",
    )
    registry.register(certificates)
    samples = read_text(generate_latest(registry).decode()).samples
    exported = {name: {label.name: label for label in labels} for name, labels in process_series().items()}
    assert {name for name, _ in samples if not name.endswith("_created")} == exported.keys()
    for name, labels in samples:
        if not name.endswith("_created"):
            assert {label for label, _ in labels} == exported[name].keys()
            assert [value for label, value in labels if not exported[name][label].takes(value)] == []


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


def test_merge_keys_and_anchors_are_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(
        "groups:\n- name: g\n  rules:\n"
        "  - &base\n    alert: A\n    expr: awoooi_flywheel_x\n    labels: {effect: a}\n"
        "  - <<: *base\n    expr: awoooi_flywheel_incidents_stuck\n"
        "  - <<: [{alert: B}, *base]\n    annotations: {summary: '{{ $labels.effect }}'}\n"
    )
    assert checked(capsys, path)[1] == [
        f"{path}:6: A: no series awoooi_flywheel_x",
        f"{path}:6: B: no series awoooi_flywheel_x",
    ]


def test_every_object_of_a_kubernetes_list_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rule(number: int) -> dict[str, Any]:
        rules = [{"alert": f"A{number}", "expr": f"awoooi_flywheel_x{number}"}]
        return {"kind": "PrometheusRule", "spec": {"groups": [{"name": "g", "rules": rules}]}}

    path = tmp_path / "rules.json"
    nested = {"kind": "List", "items": [rule(2)]}
    path.write_text(json.dumps({"kind": "PrometheusRuleList", "items": [rule(1), nested]}, indent=1))
    assert [line.partition(": ")[2] for line in checked(capsys, path)[1]] == [
        "A1: no series awoooi_flywheel_x1",
        "A2: no series awoooi_flywheel_x2",
    ]


def test_rules_and_dashboards_in_several_documents_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(
        "groups: [{rules: [{alert: A, expr: awoooi_flywheel_incidents_stuck}]}]\n---\n"
        "kind: PrometheusRule\nspec: {groups: [{rules: [{alert: B, expr: up, labels: null}]}]}\n---\n"
        "kind: Dashboard\nspec: {panels: [{title: P, targets: [{expr: awoooi_flywheel_approvals}]}]}\n"
    )
    assert checked(capsys, path) == (0, ["1 file, 2 rules, 1 dashboard query: all series exist"], "")


def test_the_bounds_of_buckets_are_those_of_the_incident_service() -> None:
    assert catalogue.RESOLUTION_BOUNDS_SECONDS == counters.RESOLUTION_BOUNDS_SECONDS


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
        pytest.param(
            "a.yml",
            "groups:\n- rules:\n  - alert: X\n    expr: up\n    expr: down\n",
            "line 5: the key expr comes twice",
            id="a key twice in a rule",
        ),
        pytest.param(
            "a.yml",
            "groups: [{rules: [{alert: X, expr: up}]}]\n---\nkind: ConfigMap\ndata: {}\n",
            "an object of kind ConfigMap is neither Prometheus rules",
            id="another object",
        ),
        pytest.param(
            "a.json",
            '{"kind": "Dashboard", "spec": {"elements": {}}}',
            "a Grafana dashboard in schema v2 (spec.elements) cannot be read",
            id="a dashboard in schema v2",
        ),
        pytest.param("a.json", "[1]", "neither Prometheus rules", id="another JSON"),
        pytest.param(
            "a.yml", "kind: PrometheusRule\nspec: {}\n", "no rules and no queries in it", id="no groups"
        ),
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
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout == "none\n"


def test_help_documents_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(["check-rules", "--help"])
    printed = capsys.readouterr().out
    assert left.value.code == 0
    assert "FILE" in printed
    assert "Exit code: 0" in printed
