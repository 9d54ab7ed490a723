"""The intake as a process, and what Alertmanager does with it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.alert_intake.notifications import body
from tests.services import TIMEOUT_SECONDS, ServiceProcess

_NO_VARIABLES: Mapping[str, str] = {}
JSON = {"Content-Type": "application/json"}


class Intake:
    """A running intake, and an HTTP client of it."""

    def __init__(self, process: ServiceProcess, client: httpx2.AsyncClient, address: str) -> None:
        self.process = process
        self.client = client
        self.address = address

    async def post(self, *alerts: dict[str, Any], **fields: Any) -> httpx2.Response:
        """Post a notification."""
        return await self.post_body(body(*alerts, **fields))

    async def post_body(self, content: bytes, **headers: str) -> httpx2.Response:
        """Post a body."""
        return await self.client.post("/alertmanager", content=content, headers={**JSON, **headers})

    async def results(self, *alerts: dict[str, Any], **fields: Any) -> dict[str, int]:
        """Post a notification that is committed; how many alerts had which result."""
        response = await self.post(*alerts, **fields)
        assert response.status_code == httpx2.codes.OK, response.text
        found: dict[str, int] = response.json()["alerts"]
        return found

    async def value(self, name: str, **labels: str) -> float:
        """The value of a series of `/metrics`."""
        response = await self.client.get("/metrics")
        for family in text_string_to_metric_families(response.text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        raise AssertionError(f"no series {name} {labels}")


@asynccontextmanager
async def running_intake(
    incident: str,
    approval: str,
    variables: Mapping[str, str] = _NO_VARIABLES,
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Intake]:
    """An intake of these services, until the block ends; then it is killed."""
    settings = {
        "INTAKE_LISTEN": "127.0.0.1:0",
        "INTAKE_INCIDENT_TARGET": incident,
        "INTAKE_APPROVAL_TARGET": approval,
        **variables,
    }
    process = await asyncio.to_thread(ServiceProcess, "alert_intake", ["serve"], settings)
    try:
        address: str = (await process.logged("serving"))["address"]
        async with httpx2.AsyncClient(
            base_url=f"{'https' if tls else 'http'}://{address}",
            timeout=TIMEOUT_SECONDS,
            verify=tls or True,
            trust_env=False,
            limits=httpx2.Limits(max_connections=None),
        ) as client:
            yield Intake(process, client, address)
    finally:
        await asyncio.to_thread(process.kill)
