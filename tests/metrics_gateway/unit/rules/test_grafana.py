"""The Grafana dashboard and how docker-compose provides it: that everything fits, as far as that shows without Grafana."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics_gateway.__main__ import run
from metrics_gateway.exposition.catalogue import BUILD_INFO, SECTIONS, SOURCE_SERIES
from metrics_gateway.exposition.families import Distribution

ROOT = Path(__file__).parents[4]
GRAFANA = ROOT / "deploy/grafana"
DASHBOARD = GRAFANA / "dashboards/flywheel.json"


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return loaded


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def grafana_service() -> dict[str, Any]:
    service: dict[str, Any] = read(ROOT / "docker-compose.yml")["services"]["grafana"]
    return service


def series_names() -> Iterator[str]:
    for series in (*(each for section in SECTIONS for each in section.series), *SOURCE_SERIES, BUILD_INFO):
        endings = ("_bucket", "_sum", "_count") if isinstance(series, Distribution) else ("",)
        yield from (series.name + ending for ending in endings)


@pytest.mark.parametrize("name", list(series_names()))
def test_every_series_is_somewhere_on_the_dashboard(name: str) -> None:
    assert any(re.search(rf"\b{name}\b", query) for query in queries())


def test_every_query_finds_its_series(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-rules", str(DASHBOARD)]) == 0, capsys.readouterr()


def test_ids_and_letters_are_given_once() -> None:
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)


def test_no_panel_lies_on_another_or_beside_the_page() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_every_panel_asks_the_prometheus_that_was_chosen() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asked = [each["datasource"] for panel in panels() for each in (panel, *panel["targets"])]
    assert all(each == chosen for each in asked)
    (variable,) = dashboard()["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )


def test_alerts_have_a_panel_and_the_watchdog_is_not_among_them() -> None:
    alerts = [query for query in queries() if "ALERTS" in query]
    assert alerts
    assert all('alertname!="FlywheelWatchdog"' in query for query in alerts)


@pytest.mark.parametrize("title", ["Stuck incidents", "Success rate, 24 h", "Sources down"])
def test_a_figure_of_now_is_never_one_of_before(title: str) -> None:
    # A range would go on showing the last value that there was.
    (panel,) = [panel for panel in panels() if panel["title"] == title]
    assert all(target["instant"] and not target["range"] for target in panel["targets"])
    assert panel["fieldConfig"]["defaults"]["noValue"]


def test_what_is_provisioned_is_what_is_mounted() -> None:
    mounts = dict(volume.split(":", 1) for volume in grafana_service()["volumes"])
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning:ro"
    assert mounts["./deploy/grafana/dashboards"] == "/etc/grafana/dashboards:ro"
    (provider,) = read(GRAFANA / "provisioning/dashboards/flywheel.yml")["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    assert provider["allowUiUpdates"] is False
    home = grafana_service()["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home) == Path("/etc/grafana/dashboards") / DASHBOARD.name
    (source,) = read(GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    scrape_interval = read(ROOT / "deploy/prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape_interval


def test_the_container_is_as_locked_down_as_the_others_and_starts_only_when_asked_for() -> None:
    service = grafana_service()
    assert service["profiles"] == ["grafana"]
    assert re.fullmatch(r"grafana/grafana:\d+\.\d+\.\d+", service["image"])
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["user"].partition(":")[0] not in ("0", "root")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["healthcheck"]["test"]
    others = [
        each for name, each in read(ROOT / "docker-compose.yml")["services"].items() if name != "grafana"
    ]
    assert not any("grafana" in each.get("depends_on", {}) for each in others)


def test_the_documentation_says_how_to_start_it() -> None:
    assert "--profile grafana up" in (ROOT / "docs/docker.md").read_text(encoding="utf-8")
