"""The Grafana dashboard and its provisioning in docker-compose, as far as they can be checked without Grafana."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics_gateway.__main__ import run
from metrics_gateway.exposition.catalogue import BUILD_INFO, SECTIONS, SOURCE_FAMILIES
from metrics_gateway.exposition.families import HistogramFamily

ROOT = Path(__file__).parents[2]
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
    for family in (
        *(each for section in SECTIONS for each in section.families),
        *SOURCE_FAMILIES,
        BUILD_INFO,
    ):
        endings = ("_bucket", "_sum", "_count") if isinstance(family, HistogramFamily) else ("",)
        yield from (family.name + ending for ending in endings)


@pytest.mark.parametrize("name", list(series_names()))
def test_every_exported_series_is_on_the_dashboard(name: str) -> None:
    assert any(re.search(rf"\b{name}\b", query) for query in queries())


def test_every_query_uses_exported_series(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-rules", str(DASHBOARD)]) == 0, capsys.readouterr()


def test_panel_ids_titles_and_query_letters_are_unique() -> None:
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)


def test_panels_do_not_overlap_and_are_within_the_grid() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_every_panel_uses_the_data_source_variable() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    datasources = [each["datasource"] for panel in panels() for each in (panel, *panel["targets"])]
    assert all(each == chosen for each in datasources)
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
def test_current_values_are_instant_queries(title: str) -> None:
    # A range query would still show the last value after it is gone.
    (panel,) = [panel for panel in panels() if panel["title"] == title]
    assert all(target["instant"] and not target["range"] for target in panel["targets"])
    assert panel["fieldConfig"]["defaults"]["noValue"]


def test_provisioned_paths_are_the_mounted_ones() -> None:
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


def test_the_container_is_locked_down_and_in_a_profile_of_its_own() -> None:
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
