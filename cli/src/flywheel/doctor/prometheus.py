"""The checks of Prometheus: it responds, has every rule and evaluates it, and scrapes the gateway."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from flywheel.doctor.checks import Check, CheckFailedError
from flywheel.doctor.deployment import Deployment
from flywheel.doctor.rules import ALERTS

_MAX_SHOWN = 5


class PrometheusChecks:
    """The checks of one Prometheus."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def checks(self) -> Sequence[Check]:
        """Return the checks, in the order in which they are reported."""
        return [
            Check("prometheus.health", self._health),
            Check("prometheus.rules", self._rules, ["prometheus.health"]),
            Check("prometheus.scrape", self._scrape, ["prometheus.health"]),
        ]

    async def _health(self) -> str:
        url = f"{self._deployment.prometheus.rstrip('/')}/-/ready"
        status, _ = await self._deployment.get(url)
        if status != HTTPStatus.OK:
            raise CheckFailedError(f"{url}: {status}", "check --prometheus, and the log of Prometheus")
        return self._deployment.prometheus

    async def _rules(self) -> str:
        groups = (await self._ask("rules?type=alert"))["groups"]
        found = {rule["name"]: rule for group in groups for rule in group["rules"]}
        if missing := sorted(ALERTS - found.keys()):
            raise CheckFailedError(
                f"{len(missing)} of {len(ALERTS)} alerts are not loaded: {_shown(missing)}",
                "load deploy/prometheus/rules/*.yml of this version (rule_files, or the PrometheusRule) and reload Prometheus",
            )
        bad = sorted(name for name in ALERTS if found[name]["health"] == "err")
        if bad:
            raise CheckFailedError(
                f"not evaluated: {_shown(bad)}: {found[bad[0]].get('lastError', '')}",
                "look at the rules' page of Prometheus",
            )
        waiting = sorted(name for name in ALERTS if found[name]["health"] != "ok")
        if waiting:
            raise CheckFailedError(
                f"not evaluated yet: {_shown(waiting)}",
                "wait for the evaluation interval of Prometheus and repeat",
            )
        return f"{len(ALERTS)} alerts are loaded and evaluated"

    async def _scrape(self) -> str:
        result = (await self._ask(f"query?query={quote('awoooi_flywheel_build_info')}"))["result"]
        if not result:
            raise CheckFailedError(
                "there is no series of the gateway",
                "add the gateway to scrape_configs, or its ServiceMonitor, with a token when it requires one; see the targets'"
                " page of Prometheus",
            )
        return ", ".join(sorted(each["metric"].get("instance", "") for each in result))

    async def _ask(self, path: str) -> Any:
        status, body = await self._deployment.get(f"{self._deployment.prometheus.rstrip('/')}/api/v1/{path}")
        try:
            answer = json.loads(body)
            if status == HTTPStatus.OK and answer["status"] == "success":
                return answer["data"]
        except (ValueError, KeyError, TypeError):
            pass
        raise CheckFailedError(f"/api/v1/{path}: {status}", "check that --prometheus is a Prometheus")


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_SHOWN]) + (", …" if len(names) > _MAX_SHOWN else "")
