"""The gateway as a process with TLS and authentication, its sources over mutual TLS."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest

from flywheel.tokens.file import change_tokens
from flywheel.tokens.model import TokenRecord, new_token
from servicekit.healthcheck import is_responding
from tests.authority import authority
from tests.metrics_gateway.integration.stats_server import always, stats_server
from tests.metrics_gateway.integration.test_process import gateway_process, refusal
from tests.metrics_gateway.scrapes import read_text
from tests.metrics_gateway.valid_responses import incident_response
from tests.services import TIMEOUT_SECONDS
from tests.tls_clients import client_context


def settings(folder: Path) -> dict[str, str]:
    """A certificate, an authority of clients, and an empty token file."""
    certificate, key = authority().sign("127.0.0.1", service="gateway").write(folder, "gateway")
    ca = folder / "ca.crt"
    ca.write_bytes(authority().certificate)
    tokens = folder / "tokens.json"
    change_tokens(tokens, lambda found: found, create=True)
    return {
        "GATEWAY_TLS_CERT_FILE": str(certificate),
        "GATEWAY_TLS_KEY_FILE": str(key),
        "GATEWAY_TLS_CLIENT_CA_FILE": str(ca),
        "GATEWAY_TOKENS_FILE": str(tokens),
        "GATEWAY_SOURCES_TLS_CA_FILE": str(ca),
        "GATEWAY_SOURCES_TLS_CERT_FILE": str(certificate),
        "GATEWAY_SOURCES_TLS_KEY_FILE": str(key),
    }


def give(variables: Mapping[str, str], role: str, **times: Any) -> str:
    """Create a token in the token file."""
    token, record = new_token("prometheus", [role], "1h", **times)

    def add(found: Any) -> list[TokenRecord]:
        return [*found, record]

    change_tokens(Path(variables["GATEWAY_TOKENS_FILE"]), add)
    return token


def server_credentials() -> grpc.ServerCredentials:
    """Of a source that requires certificates."""
    pair = authority().sign("127.0.0.1", service="incident")
    return grpc.ssl_server_credentials(
        [(pair.key, pair.certificate)], authority().certificate, require_client_auth=True
    )


def client(address: str, context: ssl.SSLContext) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=f"https://{address}", verify=context, trust_env=False, timeout=TIMEOUT_SECONDS
    )


async def test_it_reads_over_mutual_tls_and_shows_to_those_who_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = settings(tmp_path)
    viewer, proposer = give(variables, "viewer"), give(variables, "proposer")
    expired = give(variables, "viewer", now=datetime.now(UTC) - timedelta(days=2))
    async with (
        stats_server(always(incident_response()), credentials=server_credentials()) as source,
        gateway_process(GATEWAY_SOURCES=f"incident={source.address}", **variables) as process,
    ):
        address = process.first_line["address"]
        assert process.first_line["tls"] is True
        async with client(address, client_context(tmp_path)) as anyone:

            async def status(token: str | None, path: str = "/metrics") -> int:
                headers = {} if token is None else {"Authorization": f"Bearer {token}"}
                return (await anyone.get(path, headers=headers)).status_code

            for path in ("/metrics", "/"):
                found = [await status(token, path) for token in (None, "wrong", expired, proposer, viewer)]
                assert found == [401, 401, 401, 403, 200]
            assert await status(None, "/-/ready") == 200
            response = await anyone.get("/metrics", headers={"Authorization": f"Bearer {viewer}"})
            scrape = read_text(response.text)
            assert scrape.value("awoooi_flywheel_source_up", source="incident") == 1
            assert scrape.value("http_server_refused_total", limit="authentication") == 8
            certificate = variables["GATEWAY_TLS_CERT_FILE"]
            assert scrape.value("tls_certificate_expiry_timestamp_seconds", file=certificate)
        prometheus = authority().sign("prometheus")
        async with client(address, client_context(tmp_path, prometheus)) as with_certificate:
            assert (await with_certificate.get("/metrics")).status_code == 200
            wrong = {"Authorization": "Bearer wrong"}
            assert (await with_certificate.get("/metrics", headers=wrong)).status_code == 401
        monkeypatch.setenv("GATEWAY_TLS_CERT_FILE", variables["GATEWAY_TLS_CERT_FILE"])
        assert await asyncio.to_thread(is_responding, f"http://{address}/-/ready", "GATEWAY")
        log = json.dumps(await process.stop())
        assert viewer not in log
        assert proposer not in log


async def test_an_authority_of_clients_alone_closes_it_to_all_others(tmp_path: Path) -> None:
    variables = settings(tmp_path)
    del variables["GATEWAY_TOKENS_FILE"]
    async with gateway_process(GATEWAY_SOURCES="incident=127.0.0.1:1", **variables) as process:
        address = process.first_line["address"]
        for context, status in (
            (client_context(tmp_path), 401),
            (client_context(tmp_path, authority().sign("prometheus")), 200),
        ):
            async with client(address, context) as found:
                assert (await found.get("/metrics")).status_code == status


async def test_beyond_loopback_tls_is_required_too(tmp_path: Path) -> None:
    tokens = {"GATEWAY_TOKENS_FILE": settings(tmp_path)["GATEWAY_TOKENS_FILE"]}
    code, message = await refusal("serve", GATEWAY_LISTEN="0.0.0.0:0", **tokens)
    assert code == 2
    assert "and has no TLS. " in message


async def test_beyond_loopback_authentication_is_required_too(tmp_path: Path) -> None:
    of_clients = ("GATEWAY_TLS_CLIENT_CA_FILE", "GATEWAY_TOKENS_FILE")
    variables = {name: value for name, value in settings(tmp_path).items() if name not in of_clients}
    code, message = await refusal("serve", GATEWAY_LISTEN="0.0.0.0:0", **variables)
    assert code == 2
    assert "and has no authentication. " in message


async def test_a_file_of_no_use_is_named_with_its_variable(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("not what is expected")
    code, message = await refusal("serve", **(settings(tmp_path) | {"GATEWAY_TLS_KEY_FILE": str(other)}))
    assert code == 2
    assert message == f"GATEWAY_TLS_KEY_FILE: {other}: has no private key in PEM\n"
