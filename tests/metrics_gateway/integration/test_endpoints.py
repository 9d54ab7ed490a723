"""The HTTP interface: paths, methods, formats, encodings, malformed input."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
import pytest_asyncio

from tests.metrics_gateway.integration.running_gateway import Gateway, running_gateway
from tests.metrics_gateway.integration.stats_server import always, stats_server
from tests.metrics_gateway.scrapes import Scrape, read_openmetrics, read_text
from tests.metrics_gateway.valid_responses import approval_response

METRICS_PATHS = ("/metrics", "/api/v1/stats/flywheel/metrics")
PATHS = (*METRICS_PATHS, "/-/healthy", "/-/ready", "/")


@pytest_asyncio.fixture(name="client")
async def _client() -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        stats_server(always(approval_response())) as approval,
        running_gateway({"approval": approval.address}) as gateway,
    ):
        yield gateway.client


@pytest.mark.parametrize("path", PATHS)
async def test_get_succeeds_on_every_path(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 200
    assert response.text


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_the_body(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.head(path)
    assert response.status_code == 200
    assert response.content == b""
    assert response.headers["Content-Type"] == (await client.get(path)).headers["Content-Type"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_other_methods_are_not_allowed(client: httpx2.AsyncClient, path: str, method: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == 405
    assert {each.strip() for each in response.headers["Allow"].split(",")} == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path",
    [
        "/metrics/",
        "/Metrics",
        "/metric",
        "/-/quit",
        "/../etc/passwd",
        "/<script>",
        "/%00",
        "/%ff",
    ],
)
async def test_other_paths_are_not_found_and_not_echoed(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert (response.status_code, response.text) == (404, "Not Found")


@pytest.mark.parametrize(
    ("accept", "content_type", "read"),
    [
        pytest.param("*/*", "text/plain; version=0.0.4; charset=utf-8", read_text, id="text"),
        pytest.param(
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
            read_openmetrics,
            id="OpenMetrics",
        ),
        pytest.param(
            "application/openmetrics-text;version=abc",
            "text/plain; version=0.0.4; charset=utf-8",
            read_text,
            id="an invalid version",
        ),
        pytest.param(
            "application/openmetrics-text;version=7.7.7",
            "text/plain; version=0.0.4; charset=utf-8",
            read_text,
            id="an unknown version",
        ),
        pytest.param(
            "application/openmetrics-text;version=1.0.0;q=0,text/plain;version=0.0.4;q=0.5",
            "text/plain; version=0.0.4; charset=utf-8",
            read_text,
            id="OpenMetrics refused",
        ),
    ],
)
@pytest.mark.parametrize("path", METRICS_PATHS)
async def test_content_negotiation_selects_the_format(
    client: httpx2.AsyncClient, path: str, accept: str, content_type: str, read: Callable[[str], Scrape]
) -> None:
    response = await client.get(path, headers={"Accept": accept})
    assert response.headers["Content-Type"] == content_type
    assert read(response.text).value("awoooi_flywheel_execution_success_rate") == 0.75


@pytest.mark.parametrize(
    ("accept_encoding", "is_compressed"),
    [
        pytest.param("gzip", True, id="gzip"),
        pytest.param("deflate, gzip;q=0.5", True, id="gzip among others"),
        pytest.param("gzip;q=0", False, id="gzip refused"),
        pytest.param("gzip;q=0, *", False, id="gzip refused among others"),
        pytest.param("identity", False, id="identity"),
        pytest.param("", False, id="empty"),
    ],
)
async def test_gzip_is_used_when_the_client_accepts_it(
    client: httpx2.AsyncClient, accept_encoding: str, is_compressed: bool
) -> None:
    async with client.stream("GET", "/metrics", headers={"Accept-Encoding": accept_encoding}) as response:
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
    assert (response.headers.get("Content-Encoding") == "gzip") is is_compressed
    text = (gzip.decompress(raw) if is_compressed else raw).decode()
    assert read_text(text).value("awoooi_flywheel_execution_samples") == 20


@pytest.mark.parametrize("path", METRICS_PATHS)
async def test_a_client_that_refuses_every_format_gets_406(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(path, headers={"Accept": "*/*;q=0"})
    assert (response.status_code, response.text) == (406, "Not Acceptable")


async def test_the_old_path_has_the_flywheel_series_alone(client: httpx2.AsyncClient) -> None:
    everything = read_text((await client.get("/metrics")).text).names()
    old = read_text((await client.get("/api/v1/stats/flywheel/metrics")).text).names()
    assert old == {name for name in everything if name.startswith("awoooi_flywheel_")}
    assert old < everything


@pytest.mark.parametrize(
    "header",
    ["0", "-1", "nan", "inf", "1e999", "9" * 4000, "soon", "", "5, 5", "0x10"],
    ids=lambda header: header[:10] or "empty",
)
async def test_an_invalid_scrape_timeout_is_ignored(client: httpx2.AsyncClient, header: str) -> None:
    response = await client.get("/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": header})
    assert read_text(response.text).value("awoooi_flywheel_source_up", source="approval") == 1


async def test_a_query_string_is_ignored(client: httpx2.AsyncClient) -> None:
    plain = await client.get("/metrics")
    queried = await client.get("/metrics?name[]=up&%ff=%00")
    assert read_text(queried.text).names() == read_text(plain.text).names()


async def test_a_scrape_must_not_be_cached(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/metrics")).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", id="endless header"),
        pytest.param(b"\x00" * 200_000, id="zeros"),
    ],
)
async def test_malformed_requests_are_refused_and_the_next_client_is_served(
    client: httpx2.AsyncClient, sent: bytes
) -> None:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        writer.write(sent)
        response = await reader.read(200)
    except ConnectionError:  # a reset is a refusal too
        response = b""
    finally:
        writer.close()
    assert response.startswith((b"HTTP/1.1 4", b""))
    assert b" 200 " not in response
    assert (await client.get("/metrics")).status_code == 200


async def test_non_ascii_header_bytes_are_tolerated(client: httpx2.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Accept: \xff\xfe\r\nAccept-Encoding: \xff\r\nX-Prometheus-Scrape-Timeout-Seconds: \xb2\r\n\r\n"
    )
    response = await reader.read()
    writer.close()
    assert response.startswith(b"HTTP/1.1 200 ")


async def test_a_gateway_whose_sources_are_all_down_is_healthy_and_ready() -> None:
    async with running_gateway({"incident": "127.0.0.1:1"}) as gateway:
        assert await _status(gateway, "/-/healthy") == 200
        assert await _status(gateway, "/-/ready") == 200
        assert await _status(gateway, "/metrics") == 200


async def _status(gateway: Gateway, path: str) -> int:
    return (await gateway.client.get(path)).status_code
