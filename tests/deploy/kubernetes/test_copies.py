"""What is a copy of something else is equal to it: the alert rules, the jobs they refer to, the script of the database."""

import re
import subprocess
import sys

import pytest
import yaml

from tests.deploy.kubernetes.rendered import MANIFESTS, OVERLAYS, ROOT, named, of_kind, overlay


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_rules_are_those_of_the_rule_files(name: str) -> None:
    groups = [
        group
        for path in sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]
    assert named(overlay(name), "PrometheusRule", "flywheel")["spec"] == {"groups": groups}


def test_every_file_is_as_the_generator_makes_it() -> None:
    command = [sys.executable, str(MANIFESTS / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run deploy/kubernetes/generate.py: {done.stdout}"


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_jobs_are_those_of_the_rules_and_of_prometheus_here(name: str) -> None:
    jobs: dict[str, set[str]] = {}
    for monitor in of_kind(overlay(name), "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            [relabeling] = endpoint["relabelings"]
            assert relabeling["targetLabel"] == "job"
            service = monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
            jobs.setdefault(relabeling["replacement"], set()).add(service)
    configuration = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert jobs == {
        scrape["job_name"]: {target.partition(":")[0] for target in scrape["static_configs"][0]["targets"]}
        for scrape in configuration["scrape_configs"]
    }
    rules = (ROOT / "deploy/prometheus/rules/flywheel.yml").read_text(encoding="utf-8")
    assert set(re.findall(r'job="([^"]+)"', rules)) <= jobs.keys()
