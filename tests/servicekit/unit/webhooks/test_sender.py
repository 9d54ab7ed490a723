"""The sender against a real HTTP server."""

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from servicekit.webhooks.errors import ConnectFailedError, ConnectionFailedError, ResponseTimeoutError
from servicekit.webhooks.response import Response
from servicekit.webhooks.sender import WebhookSender
from servicekit.webhooks.signature import parse_secrets
from tests.certificates import self_signed_certificate, server_context
from tests.receiver import Answer, Held, Received, free_port, hang_up, raw, receiver, reset, status
from tests.servicekit.unit.webhooks.sending import (
    BODY,
    MESSAGE_ID,
    SECRET,
    outcome,
    outcome_of,
    post,
    sender_to,
)


async def received(path: str = "/", *, userinfo: str = "", **options: Any) -> Received:
    """What the receiver gets."""
    async with (
        receiver() as there,
        sender_to(there.url(path).replace("//", f"//{userinfo}", 1)) as sender,
    ):
        await post(sender, **options)
        return await there.received(1)


async def test_the_body_is_posted_as_it_is() -> None:
    request = await received("/hook?key=1")
    assert (request.method, request.target, request.body) == ("POST", "/hook?key=1", BODY)


async def test_the_library_verifies_what_is_received() -> None:
    request = await received()
    Webhook(SECRET.encode()).verify(request.body, dict(request.headers))


async def test_the_headers_are_these_and_no_others() -> None:
    headers = await header_names({})
    assert headers == {
        "host",
        "accept",
        "user-agent",
        "content-type",
        "content-length",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "idempotency-key",
        "x-awoooi-signature",
    }


async def header_names(more: dict[str, str]) -> set[str]:
    """The headers of a POST with these besides."""
    return set((await received(headers=more)).headers)


async def test_further_headers_are_added_and_never_replace_the_signature() -> None:
    more = {"X-Team": "sre", "user-agent": "mine", "Webhook-Id": "forged"}
    headers = (await received(headers=more)).headers
    assert (headers["x-team"], headers["user-agent"]) == ("sre", "mine")
    assert headers["webhook-id"] == MESSAGE_ID


async def test_credentials_in_the_url_are_basic_authentication() -> None:
    headers = (await received(userinfo="user:p%40ss@")).headers
    assert headers["authorization"] == "Basic dXNlcjpwQHNz"
    assert headers["host"].startswith("127.0.0.1:")


async def test_a_path_in_any_language_is_percent_encoded() -> None:
    assert (await received("/хук")).target == "/%D1%85%D1%83%D0%BA"


async def test_each_attempt_is_signed_with_its_own_time() -> None:
    async with receiver() as there:
        for now in (1_800_000_000.9, 1_800_000_060.0):
            async with sender_to(there.url(), clock=lambda now=now: now) as sender:
                await post(sender)
        first, second = there.requests
    assert first.body == second.body
    assert [each.headers["webhook-timestamp"] for each in (first, second)] == ["1800000000", "1800000060"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


async def test_the_response_has_the_status_and_retry_after() -> None:
    answer = status(503, headers={"Retry-After": "120"}, body=b"sesame")
    assert await outcome_of(answer) == Response(503, timedelta(seconds=120))


@pytest.mark.parametrize("location", ["/sesame", "http://127.0.0.1:1/sesame", "http://[::1/", "\x7f"])
async def test_redirects_are_not_followed(location: str) -> None:
    response = await outcome_of(status(302, headers={"Location": location}))
    assert str(response) == "answered 302; redirects are not followed"


async def test_cookies_are_not_kept() -> None:
    async with receiver() as there, sender_to(there.url()) as sender:
        there.answers.append(status(200, headers={"Set-Cookie": "session=sesame"}))
        await post(sender)
        await post(sender)
        assert all("cookie" not in request.headers for request in there.requests)


@pytest.mark.parametrize(("reuse", "connections"), [(True, [1, 1]), (False, [1, 2])])
async def test_connections_are_reused_only_on_request(*, reuse: bool, connections: list[int]) -> None:
    async with receiver() as there, sender_to(there.url(), reuse_connections=reuse) as sender:
        there.answers.append(status(200, body=b"thanks"))
        await post(sender)
        await post(sender)
        assert [request.connection for request in there.requests] == connections


async def test_concurrent_posts_do_not_wait_for_each_other() -> None:
    async with receiver() as there, sender_to(there.url()) as sender:
        held = Held(status(204))
        there.answers += [held, status(204)]
        first = asyncio.create_task(post(sender))
        await there.received(1)
        await post(sender)
        assert not first.done()
        held.release.set()
        await first


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(reset, "ReadError", id="a reset"),
        pytest.param(hang_up, "RemoteProtocolError", id="no response"),
        pytest.param(raw(b"SSH-2.0-sesame\r\n\r\n"), "RemoteProtocolError", id="not HTTP"),
    ],
)
async def test_a_broken_response_is_named_and_not_quoted(answer: Answer, reason: str) -> None:
    error = await outcome_of(answer)
    assert isinstance(error, ConnectionFailedError)
    assert str(error) == f"the connection failed: {reason}"
    assert error.__cause__ is None


async def test_a_receiver_that_hangs_is_given_up_at_the_deadline() -> None:
    error = await outcome_of(Held(status(204)), within=0.2)
    assert isinstance(error, ResponseTimeoutError)
    assert str(error) == "no answer within 0.2 s"


async def test_a_refused_connection_means_that_nothing_was_sent() -> None:
    error = await outcome(f"http://user:sesame@127.0.0.1:{await free_port()}/sesame")
    assert isinstance(error, ConnectFailedError)
    assert str(error).startswith("cannot connect: ")
    assert "sesame" not in str(error)


async def test_a_certificate_without_a_trusted_root_is_refused(tmp_path: Path) -> None:
    tls = server_context(self_signed_certificate(tmp_path))
    async with receiver(tls) as there:
        error = await outcome(there.url("/sesame"))
        assert there.requests == []
    assert isinstance(error, ConnectFailedError)
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert "sesame" not in str(error)


async def test_ssl_cert_file_names_the_trusted_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with receiver(server_context(certificate)) as there:
        assert await outcome(there.url()) == Response(204)


async def test_a_context_given_by_the_caller_verifies_certificates(tmp_path: Path) -> None:
    certificate = self_signed_certificate(tmp_path)
    tls = ssl.create_default_context(cafile=certificate)
    async with receiver(server_context(certificate)) as there:
        assert await outcome(there.url(), tls=tls) == Response(204)


def test_a_url_that_cannot_be_parsed_is_refused_and_not_quoted() -> None:
    with pytest.raises(ValueError, match=r"^not a URL$") as caught:
        WebhookSender("http://[::1/sesame", user_agent="awoooi-tests")
    assert caught.value.__cause__ is None


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_the_environments_proxy_is_used(environment: pytest.MonkeyPatch, variable: str) -> None:
    async with receiver() as proxy:
        environment.setenv(variable, proxy.url("").replace("//", "//user:p%40ss@"))
        assert await outcome("http://receiver.invalid/hook") == Response(204)
        [request] = proxy.requests
    assert request.target == "http://receiver.invalid/hook"
    assert request.headers["host"] == "receiver.invalid"
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"


async def test_a_proxy_that_refuses_the_tunnel_learns_the_host_only(environment: pytest.MonkeyPatch) -> None:
    async with receiver() as proxy:
        proxy.answers.append(raw(b"HTTP/1.1 407 sesame\r\nContent-Length: 0\r\n\r\n"))
        environment.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")
        error = await outcome("https://receiver.invalid/sesame")
        [request] = proxy.requests
    assert str(error) == "the connection failed: ProxyError"
    assert (request.method, request.target, request.body) == ("CONNECT", "receiver.invalid:443", b"")
    assert "webhook-signature" not in request.headers


async def test_no_proxy_excepts_hosts(environment: pytest.MonkeyPatch) -> None:
    async with receiver() as proxy, receiver() as there:
        environment.setenv("HTTP_PROXY", proxy.url(""))
        environment.setenv("NO_PROXY", "example.org, 127.0.0.1")
        assert await outcome(there.url()) == Response(204)
        assert proxy.requests == []


@pytest.mark.parametrize("proxy", ["http://[::1/sesame", "socks5://sesame:1080", "http://"])
def test_an_unusable_proxy_is_refused_and_not_quoted(environment: pytest.MonkeyPatch, proxy: str) -> None:
    environment.setenv("ALL_PROXY", proxy)
    with pytest.raises(ValueError, match=r"^the proxy that the environment names ") as caught:
        WebhookSender("https://receiver.invalid/", user_agent="awoooi-tests")
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_several_secrets_sign_with_one_signature_each() -> None:
    request = await received(secrets=parse_secrets(f"{SECRET}\nanother secret of the tests"))
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, "another secret of the tests"):
        Webhook(secret.encode()).verify(request.body, dict(request.headers))
