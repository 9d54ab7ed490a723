"""What Prometheus, Alertmanager and the intake say about the demo's alerts."""

import json
import urllib.parse
import urllib.request
from collections.abc import Set as AbstractSet
from typing import Any

from flywheel.demo.scrape import scrape

_TIMEOUT_SECONDS = 5.0

# A proxy in the environment does not apply to local services.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Reports:
    """The alerts by their queues, and series. Methods raise OSError when a program does not respond."""

    def __init__(self, *, prometheus: str, alertmanager: str, intake: str) -> None:
        self._prometheus = prometheus
        self._alertmanager = alertmanager
        self._intake = intake

    def scraped(self) -> AbstractSet[str]:
        """Return the queues whose gauge Prometheus has."""
        found = _get(self._prometheus, "/api/v1/query", query="demo_queue_length")
        return {series["metric"]["queue"] for series in found["data"]["result"]}

    def firing(self) -> AbstractSet[str]:
        """Return the queues whose alert fires in Prometheus."""
        alerts = _get(self._prometheus, "/api/v1/alerts")["data"]["alerts"]
        return {alert["labels"]["queue"] for alert in alerts if alert["state"] == "firing"}

    def active(self) -> AbstractSet[str]:
        """Return the queues whose alert is active in Alertmanager."""
        return {
            alert["labels"]["queue"] for alert in _get(self._alertmanager, "/api/v2/alerts", active="true")
        }

    def has(self, series: str, value: float) -> bool:
        """Return whether the last value of one series in Prometheus is this one."""
        found = _get(self._prometheus, "/api/v1/query", query=series)["data"]["result"]
        return [float(each["value"][1]) for each in found] == [value]

    def summary(self) -> str:
        """Return one line that shows how far the alerts have come."""
        return "; ".join(
            (
                f"Prometheus fires {_shown(self.firing)}",
                f"Alertmanager has {_shown(self.active)}",
                f"the intake has reported {_shown(self._reported)}",
            )
        )

    def _reported(self) -> float:
        return scrape(self._intake).value("alert_intake_alerts_total", {"result": "reported"}) or 0


def _shown(read: Any) -> str:
    try:
        found = read()
    except (OSError, ValueError) as exc:
        return f"nothing that can be read ({exc})"
    if isinstance(found, float | int):
        return f"{found:g}"
    return " and ".join(sorted(found)) or "nothing"


def _get(address: str, path: str, **parameters: str) -> Any:
    query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
    with _open(f"http://{address}{path}{query}", timeout=_TIMEOUT_SECONDS) as response:
        return json.load(response)
