"""A real Prometheus that scrapes one gateway with the project's rules, 60 times faster."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import yaml

from tests.eventually import eventually
from tests.prometheus.alert_rules import RULES
from tests.prometheus.programs import prometheus
from tests.services import TIMEOUT_SECONDS

# The durations in the rules are divided by this.
FACTOR = 60
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_INTERVAL = "1s"

Labels = Mapping[str, str]


def accelerated(rules: str) -> str:
    """The rules with every duration in them divided by FACTOR: after `for:`, in ranges, and in offsets."""
    return re.sub(
        r"(for: |\[|offset )(\d+)([smhd])\b",
        lambda found: f"{found[1]}{int(found[2]) * _SECONDS[found[3]] // FACTOR}s",
        rules,
    )


class Prometheus:
    """A client of Prometheus' HTTP API."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._client.base_url)

    async def get(self, path: str, **parameters: str) -> Any:
        """The data of a response."""
        response = await self._client.get(f"/api/v1/{path}", params=parameters)
        assert response.status_code == httpx2.codes.OK, response.text
        return response.json()["data"]

    async def query(self, expression: str) -> list[tuple[Labels, float]]:
        """The current result of an expression: series and values."""
        result = (await self.get("query", query=expression))["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]

    async def firing(self) -> set[str]:
        """The alerts that fire now."""
        return {labels["alertname"] for labels, _ in await self.query('ALERTS{alertstate="firing"}')}

    async def until_only(self, *alerts: str) -> None:
        """Wait until these alerts fire, beside the watchdog, and no others."""
        await eventually(self.firing, lambda firing: firing == {"FlywheelWatchdog", *alerts})

    async def until_firing(self, alert: str) -> Labels:
        """Wait until an alert fires; its labels."""
        found = await eventually(lambda: self.query(f'ALERTS{{alertname="{alert}", alertstate="firing"}}'))
        return found[0][0]

    async def until_over(self, alert: str) -> None:
        """Wait until an alert no longer fires."""
        await eventually(self.firing, lambda firing: alert not in firing)

    async def until_given(self, expression: str) -> None:
        """Wait until an expression has a result."""
        await eventually(lambda: self.query(expression))


@asynccontextmanager
async def running_prometheus(folder: Path, gateway: str) -> AsyncIterator[Prometheus]:
    """A Prometheus with its configuration and data in `folder` that scrapes the gateway at an address."""
    process = await asyncio.to_thread(_start, folder, gateway)
    try:
        # It does not log its port.
        address = await eventually(lambda: listening_address(process.pid))
        async with httpx2.AsyncClient(
            base_url=f"http://{address}", timeout=TIMEOUT_SECONDS, trust_env=False
        ) as client:
            await eventually(lambda: client.get("/-/ready"), lambda response: response.is_success)
            yield Prometheus(client)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


def _start(folder: Path, gateway: str) -> subprocess.Popen[bytes]:
    folder.mkdir()
    (folder / "rules.yml").write_text(accelerated(RULES.read_text(encoding="utf-8")))
    configuration = {
        "global": {"scrape_interval": _INTERVAL, "evaluation_interval": _INTERVAL},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "flywheel", "static_configs": [{"targets": [gateway]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [
        prometheus(),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        "--web.listen-address=127.0.0.1:0",
    ]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


async def listening_address(pid: int) -> str | None:
    connections = psutil.Process(pid).net_connections("tcp4")
    found = (each.laddr for each in connections if each.status == psutil.CONN_LISTEN)
    return next((f"{address.ip}:{address.port}" for address in found), None)
