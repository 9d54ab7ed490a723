"""Credentials of HTTP requests: what is passed on, and how the rest is answered."""

import base64
from functools import partial

import pytest
from starlette.types import ASGIApp

from servicekit.http.authentication import Authentication, Decision, Presented
from servicekit.http.limits import HttpLimits, HttpRefusals
from tests.servicekit.integration.http.bounded_server import bounded_server


async def decide(presented: Presented) -> Decision:
    """`good` is good, and `other` is known but may not read."""
    if presented.token == "other":
        return Decision.FORBIDDEN
    return Decision.ALLOWED if presented.token == "good" else Decision.UNAUTHENTICATED


def around(app: ASGIApp, refusals: HttpRefusals) -> ASGIApp:
    return Authentication(app, decide, refusals, open_paths=["/-/ready"])


def basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize(
    ("path", "authorization", "status"),
    [
        (b"/metrics", [b"Bearer good"], 200),
        (b"/metrics", [b"bearer good"], 200),
        # A browser can ask for a password.
        (b"/metrics", [basic(b"anyone:good")], 200),
        (b"/metrics", [basic(b":good")], 200),
        (b"/-/ready", [], 200),
        (b"/-/ready", [b"Bearer wrong"], 200),
        (b"/metrics", [], 401),
        (b"/metrics", [b"Bearer"], 401),
        (b"/metrics", [b"Bearer wrong"], 401),
        (b"/metrics", [b"Bearer good", b"Bearer good"], 401),
        (b"/metrics", [b"Digest good"], 401),
        (b"/metrics", [basic(b"good")], 401),
        (b"/metrics", [b"Basic good!"], 401),
        (b"/metrics", [basic(b"\xff:good\xff")], 401),
        (b"/-/ready/", [], 401),
        (b"//-/ready", [], 401),
        (b"/metrics?x=/-/ready", [], 401),
        (b"/metrics", [b"Bearer other"], 403),
    ],
)
async def test_who_is_answered(path: bytes, authorization: list[bytes], status: int) -> None:
    headers = b"".join(b"Authorization: " + value + b"\r\n" for value in authorization)
    async with bounded_server(HttpLimits(), around=around) as server:
        client = await server.connect()
        response = await client.response(
            b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n"
        )
    assert response.startswith(b"HTTP/1.1 %d" % status)
    refused = status != 200
    assert server.refused() == ({"authentication": 1} if refused else {})
    assert response.endswith(b"here") is not refused
    assert (response.count(b"www-authenticate: ") == 2) is (status == 401)


HEADERS = (
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'",
    b"x-content-type-options: nosniff",
    b"x-frame-options: DENY",
    b"referrer-policy: no-referrer",
    b"cross-origin-opener-policy: same-origin",
    b"cross-origin-resource-policy: same-origin",
)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\n\r\n", id="200"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="401"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n", id="421"),
    ],
)
async def test_every_response_has_the_security_headers(request_: bytes) -> None:
    async with bounded_server(HttpLimits(), around=partial(around)) as server:
        client = await server.connect()
        response = await client.response(request_)
    lines = response.split(b"\r\n")
    assert [header for header in HEADERS if header not in lines] == []
