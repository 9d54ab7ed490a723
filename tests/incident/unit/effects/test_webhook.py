"""The webhook against a real HTTP server: what is posted, and what each answer means."""

import asyncio
import json
import re
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path

import pytest

from incident.effects.model import ResolutionSnapshot
from incident.effects.webhook import Webhook, parse_retry_after
from servicekit.outbox.handler import DeliveryError, PermanentError
from tests.incident.resolutions import DELIVERY_ID, TOOK, resolution
from tests.receiver import (
    Answer,
    Held,
    Received,
    endless_body,
    free_port,
    hang_up,
    raw,
    receiver,
    reset,
    status,
)

SECRET = "a secret of the tests"
DOCUMENT = Path(__file__).parents[4] / "docs/webhooks.md"


@asynccontextmanager
async def webhook(url: str, *, patience: float = 30.0, now: float | None = None) -> AsyncIterator[Webhook]:
    clock = time.time if now is None else lambda: now
    sender = Webhook(url, SECRET, timeout=timedelta(seconds=patience), connections=2, clock=clock)
    try:
        yield sender
    finally:
        await sender.close()


async def send(sender: Webhook, what: ResolutionSnapshot | None = None) -> None:
    await sender.send(what or resolution(), delivery_id=DELIVERY_ID, time_to_resolve=TOOK, progress={})


async def outcome(answer: Answer, *, patience: float = 30.0) -> Exception | None:
    """What a delivery comes to that is answered so."""
    async with receiver() as there, webhook(there.url(), patience=patience) as sender:
        there.answers.append(answer)
        try:
            await send(sender)
        except Exception as exc:
            return exc
        return None


async def posted() -> Received:
    async with receiver() as there, webhook(there.url("/hook?key=1")) as sender:
        await send(sender)
        return await there.received(1)


def documented(language: str) -> str:
    """The document's first block in a language."""
    match = re.search(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None
    return match[1]


def documented_receiver() -> Callable[..., bool]:
    """`verified` of the document, as a reader would copy it."""
    namespace: dict[str, Callable[..., bool]] = {}
    exec(documented("python"), namespace)  # noqa: S102 - our own document is what is tested
    return namespace["verified"]


async def test_the_body_is_the_documented_one() -> None:
    request = await posted()
    example = json.loads(documented("json"))
    assert (request.method, request.target) == ("POST", "/hook?key=1")
    assert request.headers["content-type"] == "application/json"
    assert request.content == example | {"resolution_number": 2, "delivery_id": DELIVERY_ID}
    assert list(request.content) == list(example)


async def test_the_delivery_id_is_in_both_headers() -> None:
    headers = (await posted()).headers
    assert headers["x-awoooi-delivery-id"] == headers["idempotency-key"] == DELIVERY_ID


async def test_the_documented_receiver_accepts_what_is_posted() -> None:
    request = await posted()
    assert documented_receiver()(SECRET.encode(), request.headers["x-awoooi-signature"], request.body)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda s, b: (s, b.replace(b"HIGH", b"INFO")), id="another body"),
        pytest.param(lambda s, b: (s.replace("v1=", "v1=0"), b), id="another digest"),
        pytest.param(lambda s, b: (re.sub(r"t=(\d+)", "t=1", s), b), id="another time"),
        pytest.param(lambda s, b: (s.split(",")[0], b), id="no digest"),
        pytest.param(lambda s, b: (s.split(",")[1], b), id="no time"),
        pytest.param(lambda _, b: ("t=now,v1=0", b), id="a time that is no number"),
        pytest.param(lambda _, b: ("", b), id="nothing"),
    ],
)
async def test_the_documented_receiver_refuses(spoil: Callable[[str, bytes], tuple[str, bytes]]) -> None:
    request = await posted()
    signature, body = spoil(request.headers["x-awoooi-signature"], request.body)
    assert not documented_receiver()(SECRET.encode(), signature, body)


async def test_the_documented_receiver_refuses_another_secret_and_an_old_signature() -> None:
    request = await posted()
    signature = request.headers["x-awoooi-signature"]
    assert not documented_receiver()(b"another secret", signature, request.body)
    assert not documented_receiver()(SECRET.encode(), signature, request.body, now=time.time() + 301)


async def test_each_try_posts_the_same_bytes_signed_anew() -> None:
    async with receiver() as there:
        for now in (1_800_000_000.9, 1_800_000_060.0):
            async with webhook(there.url(), now=now) as sender:
                await send(sender)
        first, second = there.requests
        assert first.body == second.body
        assert first.headers["x-awoooi-signature"].startswith("t=1800000000,v1=")
        assert second.headers["x-awoooi-signature"].startswith("t=1800000060,v1=")


async def test_text_in_any_language_arrives_as_it_was() -> None:
    title = 'Платёж «упал» 💥 "\\ \u2028 </script>'
    async with receiver() as there, webhook(there.url()) as sender:
        await send(sender, resolution(title=title))
        assert (await there.received(1)).content["title"] == title


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
async def test_2xx_is_done(code: int) -> None:
    assert await outcome(status(code)) is None


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 410, 413, 422, 451, 499])
async def test_a_refusal_parks_and_says_the_status_only(code: int) -> None:
    error = await outcome(status(code, body=b"token=sesame is wrong"))
    assert isinstance(error, PermanentError)
    assert str(error) == f"the receiver answered {code}"


@pytest.mark.parametrize("code", [408, 429, 500, 501, 502, 503, 504, 599])
async def test_what_may_heal_is_tried_again(code: int) -> None:
    error = await outcome(status(code, body=b"token=sesame is wrong"))
    assert isinstance(error, DeliveryError)
    assert str(error) == f"the receiver answered {code}"
    assert error.retry_after == timedelta(0)


@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after_is_honoured(code: int) -> None:
    error = await outcome(status(code, headers={"Retry-After": "120"}))
    assert isinstance(error, DeliveryError)
    assert error.retry_after == timedelta(seconds=120)


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param("", 0, id="not there"),
        pytest.param("0", 0, id="at once"),
        pytest.param("17", 17, id="seconds"),
        pytest.param("3600", 3600, id="an hour"),
        pytest.param("3601", 3600, id="more than an hour"),
        pytest.param("9" * 5000, 3600, id="a number beyond all bounds"),
        pytest.param("-5", 0, id="negative"),
        pytest.param("1.5", 0, id="a fraction"),
        pytest.param("¹²", 0, id="digits that are none"),
        pytest.param(formatdate(NOW + 90, usegmt=True), 90, id="a date"),
        pytest.param(formatdate(NOW - 90, usegmt=True), 0, id="a date in the past"),
        pytest.param(formatdate(NOW + 10**6, usegmt=True), 3600, id="a date too far away"),
        pytest.param("Wed, 99 Foo 2026 99:99:99 GMT", 0, id="a date that is none"),
        pytest.param("soon", 0, id="a word"),
    ],
)
def test_retry_after_is_read_within_bounds(value: str, seconds: float) -> None:
    assert parse_retry_after(value, now=NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        pytest.param(reset, "the connection failed: ReadError", id="a reset"),
        pytest.param(hang_up, "the connection failed: RemoteProtocolError", id="no answer at all"),
        pytest.param(
            raw(b"SSH-2.0-OpenSSH_9.2 sesame\r\n\r\n"),
            "the connection failed: RemoteProtocolError",
            id="not HTTP",
        ),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000),
            "the connection failed: RemoteProtocolError",
            id="headers without end",
        ),
    ],
)
async def test_a_broken_answer_is_tried_again_and_not_quoted(answer: Answer, text: str) -> None:
    error = await outcome(answer)
    assert isinstance(error, DeliveryError)
    assert str(error) == text


async def test_a_receiver_that_is_not_there_is_tried_again() -> None:
    async with webhook(f"http://127.0.0.1:{await free_port()}/sesame") as sender:
        with pytest.raises(DeliveryError, match=r"^cannot connect: ") as caught:
            await send(sender)
    assert "sesame" not in str(caught.value)


async def test_a_receiver_that_hangs_is_given_up_after_the_timeout() -> None:
    error = await outcome(Held(status(204)), patience=0.2)
    assert isinstance(error, DeliveryError)
    assert str(error) == "no answer within 0.2 s"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(endless_body(200), id="a body without end"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), id="a body that hangs"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\nbytes"),
            id="a body that is broken",
        ),
    ],
)
async def test_the_status_counts_whatever_becomes_of_the_body(answer: Answer) -> None:
    assert await outcome(answer) is None


async def test_a_refusal_with_a_body_without_end_parks() -> None:
    assert isinstance(await outcome(endless_body(400)), PermanentError)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(code: int) -> None:
    async with receiver() as elsewhere:
        error = await outcome(status(code, headers={"Location": elsewhere.url("/sesame")}))
        assert isinstance(error, DeliveryError)
        assert str(error) == f"the receiver answered {code}; redirects are not followed"
        assert elsewhere.requests == []


async def test_a_connection_is_used_again() -> None:
    async with receiver() as there, webhook(there.url()) as sender:
        there.answers.append(status(200, body=b"thanks"))
        await send(sender)
        await send(sender)
        assert [request.connection for request in there.requests] == [1, 1]


async def test_a_receiver_that_hangs_holds_up_no_other_delivery() -> None:
    async with receiver() as there, webhook(there.url()) as sender:
        held = Held(status(204))
        there.answers += [held, status(204)]
        first = asyncio.create_task(send(sender))
        await there.received(1)
        await send(sender)
        assert not first.done()
        held.release.set()
        await first


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """A server's TLS with a certificate for 127.0.0.1 that nobody else vouches for."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run([*command, *files], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl, which makes the certificate, is not installed")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return tls


async def test_a_certificate_that_nobody_signed_is_refused(self_signed: ssl.SSLContext) -> None:
    async with receiver(self_signed) as there, webhook(there.url()) as sender:
        with pytest.raises(DeliveryError, match=r"^cannot connect: .*certificate"):
            await send(sender)
        assert there.requests == []


def test_a_url_that_cannot_be_used_is_refused_without_being_quoted() -> None:
    with pytest.raises(ValueError, match=r"^not a URL$") as caught:
        Webhook("http://[::1/sesame", SECRET, timeout=timedelta(seconds=1), connections=1)
    assert caught.value.__cause__ is None
