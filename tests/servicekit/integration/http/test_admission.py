"""Requests that are refused before an application sees them: other hosts, large headers, bodies."""

import pytest

from servicekit.http.admission import AllowedHosts
from servicekit.http.limits import HttpLimits
from tests.servicekit.integration.http.bounded_server import GET, bounded_server


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9464",
        "127.0.0.1",
        "[::1]:9464",
        "10.1.2.3:80",
        "localhost:9464",
        "metrics-gateway:9464",
        "LOCALHOST",
        "gateway.flywheel.svc:9464",
        "gateway.flywheel.svc.cluster.local.",
        "metrics.example.com",
        "a.b.example.org:443",
    ],
)
def test_addresses_local_names_and_configured_ones_are_allowed(host: str) -> None:
    assert AllowedHosts(["metrics.example.com", "*.example.org"]).allow(host)


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "attacker.example:9464",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
        "metrics.example.com.attacker.example",
        "example.org",
        "badexample.org",
        "127.0.0.1@attacker.example",
        "[attacker.example]",
        "1.2.3",
        "",
    ],
)
def test_other_hosts_are_not_allowed(host: str) -> None:
    assert not AllowedHosts(["metrics.example.com", "*.example.org"]).allow(host)


def test_a_single_asterisk_allows_every_host() -> None:
    assert AllowedHosts(["*"]).allow("attacker.example")


async def test_a_request_for_another_host_is_misdirected() -> None:
    async with bounded_server(HttpLimits()) as server:
        client = await server.connect()
        response = await client.response(GET.replace(b"localhost", b"attacker.example"))
        assert response.startswith(b"HTTP/1.1 421 ")
        assert b"attacker" not in response
        assert await client.closed() == b""
        assert server.refused() == {"host": 1}


@pytest.mark.parametrize(
    "large",
    [
        GET.replace(b"\r\n\r\n", b"\r\nA: " + b"x" * 60_000 + b"\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\n" + b"A: x\r\n" * 10_000 + b"\r\n"),
        GET.replace(b"/ ", b"/" + b"x" * 60_000 + b" "),
        GET.replace(b"/ ", b"/?" + b"x" * 60_000 + b" "),
    ],
    ids=["one header", "many headers", "path", "query"],
)
async def test_headers_beyond_the_limit_are_refused(large: bytes) -> None:
    async with bounded_server(HttpLimits()) as server:
        client = await server.connect()
        await client.send(large)
        # In one piece it is read whole; in several the parser refuses it first.
        assert (await client.closed()).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize("kind", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_a_request_with_a_body_is_refused_and_its_connection_closed(kind: bytes) -> None:
    async with bounded_server(HttpLimits()) as server:
        client = await server.connect()
        response = await client.response(GET.replace(b"\r\n\r\n", b"\r\n" + kind + b"\r\n\r\n"))
        assert response.startswith(b"HTTP/1.1 413 ")
        assert await client.closed() == b""
        assert server.refused() == {"body": 1}


async def test_an_empty_body_is_none() -> None:
    async with bounded_server(HttpLimits()) as server:
        client = await server.connect()
        request = GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n")
        assert (await client.response(request)).startswith(b"HTTP/1.1 200 ")
