"""Real Alertmanagers that post to an intake, and a real Prometheus that reports to them."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import yaml

from flywheel.programs.debian import working_folder
from tests.eventually import eventually
from tests.prometheus.programs import alertmanager, prometheus
from tests.services import TIMEOUT_SECONDS

# Alerts are posted at once, and changes a second later; nothing is repeated while a test runs.
_TIMES = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "4h"}
_RULE = """
groups:
  - name: api
    interval: 1s
    rules:
      - alert: ApiDown
        expr: up{job="api"} == 0
        labels: {severity: page}
        annotations:
          summary: The API is down
          description: "It is {{ $value }} at {{ $labels.instance }}."
          recovery_expression: up{job="api"} == 0
"""


class Alertmanager:
    """A client of Alertmanager's API."""

    def __init__(self, client: httpx2.AsyncClient, address: str) -> None:
        self.address = address
        self._client = client

    async def report(self, alerts: Sequence[Mapping[str, str]], *, ended: bool = False) -> None:
        """Report alerts by their labels, as Prometheus does: they fire, or have ended."""
        now = datetime.now(UTC).isoformat()
        body = [{"labels": labels, **({"endsAt": now} if ended else {})} for labels in alerts]
        response = await self._client.post("/api/v2/alerts", json=body)
        assert response.status_code == httpx2.codes.OK, response.text

    async def active(self) -> int:
        """How many alerts fire here."""
        return len((await self._client.get("/api/v2/alerts", params={"active": "true"})).json())


@asynccontextmanager
async def running_alertmanager(
    folder: Path, intake: str, *, group_by: Sequence[str] = ("...",), cluster: str = "", peer: str = ""
) -> AsyncIterator[Alertmanager]:
    """An Alertmanager whose receiver is the intake at an address; with others it forms a cluster when it has an address."""
    webhook = {"url": f"http://{intake}/alertmanager", "send_resolved": True}
    configuration = {
        "route": {"receiver": "flywheel", "group_by": list(group_by), **_TIMES},
        "receivers": [{"name": "flywheel", "webhook_configs": [webhook]}],
    }
    _write(folder, {"alertmanager.yml": yaml.safe_dump(configuration)})
    listen = free_address()
    command = [
        alertmanager(),
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/data",
        f"--web.listen-address={listen}",
        f"--cluster.listen-address={cluster}",
        *([f"--cluster.peer={peer}"] if peer else []),
        "--cluster.peer-timeout=1s",
        "--cluster.settle-timeout=0s",
    ]
    async with (
        _process(command, folder / "log", cwd=working_folder(alertmanager())),
        _client(listen) as client,
    ):
        await eventually(lambda: _is_ready(client))
        yield Alertmanager(client, listen)


@asynccontextmanager
async def running_prometheus(folder: Path, target: str, alertmanagers: Sequence[str]) -> AsyncIterator[str]:
    """A Prometheus whose alert ApiDown fires while the target cannot be scraped; its address."""
    configuration: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
        "scrape_configs": [{"job_name": "api", "static_configs": [{"targets": [target]}]}],
    }
    _write(folder, {"rules.yml": _RULE, "prometheus.yml": yaml.safe_dump(configuration)})
    listen = free_address()
    command = [
        prometheus(),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={listen}",
        "--rules.alert.resend-delay=1s",
    ]
    async with _process(command, folder / "log"), _client(listen) as client:
        await eventually(lambda: _is_ready(client))
        yield listen


def free_address() -> str:
    """An address of loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)


async def _is_ready(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/-/ready")).is_success
    except httpx2.TransportError:
        return False


@asynccontextmanager
async def _client(address: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=f"http://{address}", timeout=TIMEOUT_SECONDS, trust_env=False
    ) as client:
        yield client


@asynccontextmanager
async def _process(command: Sequence[str], log: Path, cwd: Path | None = None) -> AsyncIterator[None]:
    with log.open("w") as output:
        started = await asyncio.to_thread(
            subprocess.Popen, command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield
    finally:
        started.kill()
        await asyncio.to_thread(started.wait)
