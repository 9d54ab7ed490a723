"""The command for container health checks, over TLS."""

import asyncio
from pathlib import Path

import pytest

from servicekit.healthcheck import main
from servicekit.http.limits import HttpLimits
from servicekit.http.tls import HttpTls
from servicekit.identity.certificate_watch import CertificateWatch
from servicekit.identity.certificates import CertificatePaths
from servicekit.rpc.tls import ServerTls
from tests.authority import authority
from tests.servicekit.integration.http.bounded_server import bounded_server
from tests.servicekit.scripted_server import scripted_server


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CertificateWatch:
    """The server's settings. Its certificate is for names that the health check's target does not have."""
    certificate, key = authority().sign("incident.example.com", service="incident").write(tmp_path, "server")
    ca = tmp_path / "clients.crt"
    ca.write_bytes(authority().certificate)
    monkeypatch.setenv("INCIDENT_TLS_CERT_FILE", str(certificate))
    monkeypatch.setenv("INCIDENT_TLS_KEY_FILE", str(key))
    return CertificateWatch(CertificatePaths(certificate, key, ca))


async def check(*arguments: str) -> int:
    return await asyncio.to_thread(main, list(arguments))


@pytest.mark.parametrize("requires_client_certificate", [False, True])
async def test_a_grpc_server_over_tls(
    requires_client_certificate: bool, files: CertificateWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    if requires_client_certificate:
        monkeypatch.setenv("INCIDENT_TLS_CLIENT_CA_FILE", str(files.paths.authorities))
    tls = ServerTls(files, requires_client_certificate=requires_client_certificate)
    async with scripted_server(tls=tls) as running:
        assert await check(running.server.address, "INCIDENT") == 1
        await running.server.set_serving(True)
        assert await check(running.server.address, "INCIDENT") == 0
        # In plain text it is not healthy.
        assert await check(running.server.address) == 1


async def test_another_server_in_its_place_is_not_healthy(
    files: CertificateWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, _ = authority().sign("incident.example.com", key="other").write(tmp_path, "other")
    monkeypatch.setenv("INCIDENT_TLS_CERT_FILE", str(other))
    async with scripted_server(tls=ServerTls(files)) as running:
        await running.server.set_serving(True)
        assert await check(running.server.address, "INCIDENT") == 1


async def test_an_http_server_over_tls(files: CertificateWatch) -> None:
    async with bounded_server(HttpLimits(), tls=HttpTls(files)) as server:
        url = f"http://{server.address}/-/ready"
        assert await check(url, "INCIDENT") == 0
        assert await check(url) == 1


async def test_an_http_server_in_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INCIDENT_TLS_CERT_FILE")
    async with bounded_server(HttpLimits()) as server:
        assert await check(f"http://{server.address}/-/ready", "INCIDENT") == 0
    assert await check(f"http://{server.address}/-/ready", "INCIDENT") == 1


async def test_a_certificate_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INCIDENT_TLS_CERT_FILE", "/no/such/file")
    assert await check("127.0.0.1:1", "INCIDENT") == 1
    assert "INCIDENT_TLS_CERT_FILE: " in capsys.readouterr().err
