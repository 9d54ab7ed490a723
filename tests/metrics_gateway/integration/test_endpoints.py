"""What an HTTP client sees: paths, methods, formats, encodings, bad input."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
import pytest_asyncio

from tests.metrics_gateway.honest_answers import approval_answer
from tests.metrics_gateway.running_gateway import Gateway, running_gateway
from tests.metrics_gateway.scrapes import Scrape, read_openmetrics, read_text
from tests.metrics_gateway.stats_server import always, stats_server

METRICS_PATHS = ("/metrics", "/api/v1/stats/flywheel/metrics")
PATHS = (*METRICS_PATHS, "/-/healthy", "/-/ready", "/")


@pytest_asyncio.fixture(name="client")
async def _client() -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        stats_server(always(approval_answer())) as approval,
        running_gateway({"approval": approval.address}) as gateway,
    ):
        yield gateway.client


@pytest.mark.parametrize("path", PATHS)
async def test_get_is_answered(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.text


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_the_body(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.head(path)
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["Content-Type"] == (await client.get(path)).headers["Content-Type"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_other_methods_are_not_allowed(client: httpx2.AsyncClient, path: str, method: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert {each.strip() for each in answer.headers["Allow"].split(",")} == {"GET", "HEAD"}


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
async def test_other_paths_are_not_found_and_not_repeated(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.text) == (404, "Not Found")


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
            id="a version that is none",
        ),
    ],
)
@pytest.mark.parametrize("path", METRICS_PATHS)
async def test_the_format_is_what_the_scraper_accepts(
    client: httpx2.AsyncClient, path: str, accept: str, content_type: str, read: Callable[[str], Scrape]
) -> None:
    answer = await client.get(path, headers={"Accept": accept})
    assert answer.headers["Content-Type"] == content_type
    assert read(answer.text).value("awoooi_flywheel_execution_success_rate") == 0.75


@pytest.mark.parametrize(
    ("accept_encoding", "is_compressed"),
    [
        pytest.param("gzip", True, id="gzip"),
        pytest.param("deflate, gzip;q=0.5", True, id="gzip among others"),
        pytest.param("identity", False, id="as it is"),
        pytest.param("", False, id="nothing asked for"),
    ],
)
async def test_gzip_is_used_for_those_who_accept_it(
    client: httpx2.AsyncClient, accept_encoding: str, is_compressed: bool
) -> None:
    async with client.stream("GET", "/metrics", headers={"Accept-Encoding": accept_encoding}) as answer:
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert (answer.headers.get("Content-Encoding") == "gzip") is is_compressed
    text = (gzip.decompress(raw) if is_compressed else raw).decode()
    assert read_text(text).value("awoooi_flywheel_execution_samples") == 20


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
async def test_an_odd_scrape_timeout_is_no_reason_to_fail(client: httpx2.AsyncClient, header: str) -> None:
    answer = await client.get("/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": header})
    assert read_text(answer.text).value("awoooi_flywheel_source_up", source="approval") == 1


async def test_a_query_string_changes_nothing(client: httpx2.AsyncClient) -> None:
    plain = await client.get("/metrics")
    queried = await client.get("/metrics?name[]=up&%ff=%00")
    assert read_text(queried.text).names() == read_text(plain.text).names()


async def test_nobody_may_keep_what_a_scrape_said(client: httpx2.AsyncClient) -> None:
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
async def test_junk_is_refused_and_the_next_caller_served(client: httpx2.AsyncClient, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        writer.write(sent)
        answer = await reader.read(200)
    except ConnectionError:  # a reset is a refusal too
        answer = b""
    finally:
        writer.close()
    assert answer.startswith((b"HTTP/1.1 4", b""))
    assert b" 200 " not in answer
    assert (await client.get("/metrics")).status_code == 200


async def test_header_bytes_beyond_ascii_are_no_reason_to_fail(client: httpx2.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Accept: \xff\xfe\r\nAccept-Encoding: \xff\r\nX-Prometheus-Scrape-Timeout-Seconds: \xb2\r\n\r\n"
    )
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_gateway_whose_sources_are_all_down_is_healthy_and_ready() -> None:
    async with running_gateway({"incident": "127.0.0.1:1"}) as gateway:
        assert await _status(gateway, "/-/healthy") == 200
        assert await _status(gateway, "/-/ready") == 200
        assert await _status(gateway, "/metrics") == 200


async def _status(gateway: Gateway, path: str) -> int:
    return (await gateway.client.get(path)).status_code
