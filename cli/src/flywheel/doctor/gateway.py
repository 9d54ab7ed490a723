"""The checks of the metrics gateway: it responds, every source is up, every series is there, its version."""

import asyncio
import re
import sys
from collections.abc import Sequence
from http import HTTPStatus

from flywheel.doctor.checks import Check, CheckFailedError
from flywheel.doctor.deployment import Deployment

_SOURCE_UP = re.compile(r'^awoooi_flywheel_source_up\{.*?source="([^"]*)".*?\} ([0-9.]+)$', re.MULTILINE)
_VERSION = re.compile(r'^awoooi_flywheel_build_info\{.*?version="([^"]*)".*?\} 1', re.MULTILINE)


class GatewayChecks:
    """The checks of the gateway; what one finds the later ones use."""

    def __init__(self, deployment: Deployment, *, version: str) -> None:
        self._deployment = deployment
        self._version = version
        self._scrape = ""

    def checks(self) -> Sequence[Check]:
        """Return the checks, in the order in which they are reported."""
        return [
            Check("gateway.health", self._health),
            Check("gateway.scrape", self._read, ["gateway.health"]),
            Check("gateway.sources", self._sources, ["gateway.scrape"]),
            Check("gateway.series", self._series, ["gateway.sources"]),
            Check("gateway.version", self._check_version, ["gateway.scrape"]),
        ]

    async def _health(self) -> str:
        url = f"{self._deployment.gateway_url}/-/healthy"
        status, _ = await self._deployment.get(url)
        if status != HTTPStatus.OK:
            raise CheckFailedError(
                f"{url}: {status}", "check that the gateway listens there, and nothing else"
            )
        return self._deployment.gateway_url

    async def _read(self) -> str:
        status, self._scrape = await self._deployment.get(
            f"{self._deployment.gateway_url}/metrics", with_token=True
        )
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise CheckFailedError(
                f"/metrics: {status}",
                "give a token of the role viewer or operator that the gateway knows (--token-file); docs/security.md",
            )
        if status == HTTPStatus.MISDIRECTED_REQUEST:
            raise CheckFailedError(
                f"/metrics: {status}", "add the name of --gateway to GATEWAY_ALLOWED_HOSTS"
            )
        if status != HTTPStatus.OK:
            raise CheckFailedError(f"/metrics: {status}", "look at the log of the gateway")
        return f"{len(self._scrape)} bytes"

    async def _sources(self) -> str:
        sources = dict(_SOURCE_UP.findall(self._scrape))
        if not sources:
            raise CheckFailedError(
                "the gateway has no source", "set GATEWAY_SOURCES to the addresses of both services"
            )
        if down := sorted(name for name, value in sources.items() if float(value) != 1):
            raise CheckFailedError(
                f"down: {', '.join(down)}",
                "look at awoooi_flywheel_source_failures_total and the gateway's log: address, TLS, its certificate or token,"
                " the role of the gateway",
            )
        return ", ".join(sorted(sources))

    async def _series(self) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "metrics_gateway", "check-scrape"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            printed, errors = await process.communicate(self._scrape.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        lines = (printed or errors).decode().split("\n")
        if process.returncode != 0:
            missing = [line for line in lines if line]
            raise CheckFailedError(
                f"{len(missing)} series are missing: {', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}",  # noqa: PLR2004 - as many as a line has room for
                "give the gateway both services as sources (GATEWAY_SOURCES), and bring all to one version",
            )
        return lines[0]

    async def _check_version(self) -> str:
        found = _VERSION.search(self._scrape)
        if found is None or found[1] != self._version:
            raise CheckFailedError(
                f"{found[1] if found else 'it does not say its version'}; this command is {self._version}",
                "finish the upgrade: all services and this command are to be of one version",
            )
        return found[1]
