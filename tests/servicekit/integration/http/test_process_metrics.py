"""The own metrics of a process: over TLS, and for those who may read, once the process authenticates its callers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from servicekit.http.process_metrics import process_metrics
from servicekit.http.tls import HttpTls
from servicekit.identity.authenticator import Authenticator
from servicekit.identity.certificate_store import CertificateStore
from servicekit.identity.certificate_watch import CertificateWatch
from servicekit.identity.certificates import CertificatePaths
from tests.authority import authority
from tests.eventually import eventually
from tests.services import TIMEOUT_SECONDS
from tests.tls_clients import client_context


@asynccontextmanager
async def serving(tls: HttpTls | None, authenticator: Authenticator | None) -> AsyncIterator[str]:
    """The address of the metrics of a process, until the block ends."""
    registry = CollectorRegistry()
    registry.register(CertificateStore())
    with capture_logs() as logs:
        work = process_metrics("127.0.0.1:0", registry, tls=tls, authenticator=authenticator)["metrics"]
        task = asyncio.ensure_future(work)

        async def logged() -> str:
            return next((line["address"] for line in logs if line["event"] == "serving"), "")

        yield await eventually(logged)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_they_are_for_clients_with_a_certificate_or_a_token(tmp_path: Path) -> None:
    certificate, key = authority().sign("127.0.0.1").write(tmp_path, "server")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority().certificate)
    tls = HttpTls(CertificateWatch(CertificatePaths(certificate, key, ca)))
    prometheus = client_context(tmp_path, authority().sign("prometheus"))
    async with serving(tls, Authenticator()) as address:
        codes = []
        for context in (client_context(tmp_path), prometheus):
            async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=TIMEOUT_SECONDS) as client:
                codes.append((await client.get(f"https://{address}/metrics")).status_code)
    assert codes == [httpx2.codes.UNAUTHORIZED, httpx2.codes.OK]


async def test_without_authentication_they_are_open() -> None:
    async with (
        serving(None, None) as address,
        httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT_SECONDS) as client,
    ):
        response = await client.get(f"http://{address}/metrics")
    assert response.status_code == httpx2.codes.OK
    assert "http_server_refused_total" in response.text
