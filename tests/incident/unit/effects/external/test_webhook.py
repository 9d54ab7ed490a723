"""The webhook against a real HTTP server: what is posted, and the outcome of each response."""

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from incident.effects.external.webhook import Webhook
from incident.effects.model import ResolutionSnapshot
from servicekit.outbox.handler import DeliveryError, PermanentError
from servicekit.webhooks.signature import parse_secrets
from tests.incident.unit.effects.resolutions import DELIVERY_ID, TOOK, resolution
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
PREFIXED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DOCUMENT = Path(__file__).parents[5] / "docs/webhooks.md"

Verified: TypeAlias = Callable[[str, Mapping[str, str], bytes], bool]


@asynccontextmanager
async def webhook(
    url: str, *, secret: str = SECRET, within: float = 30.0, now: float | None = None
) -> AsyncIterator[Webhook]:
    clock = time.time if now is None else lambda: now
    sender = Webhook(url, secret, timeout=timedelta(seconds=within), connections=2, clock=clock)
    try:
        yield sender
    finally:
        await sender.close()


async def send(sender: Webhook, what: ResolutionSnapshot | None = None) -> None:
    await sender.send(what or resolution(), delivery_id=DELIVERY_ID, time_to_resolve=TOOK, progress={})


async def outcome(answer: Answer, *, within: float = 30.0) -> Exception | None:
    """The error of a delivery that is answered so."""
    async with receiver() as there, webhook(there.url(), within=within) as sender:
        there.answers.append(answer)
        try:
            await send(sender)
        except Exception as exc:
            return exc
        return None


async def posted(secret: str = SECRET, *, now: float | None = None) -> Received:
    """The request that the receiver gets."""
    async with receiver() as there, webhook(there.url("/hook?key=1"), secret=secret, now=now) as sender:
        await send(sender)
        return await there.received(1)


def documented(language: str) -> list[str]:
    """The document's blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def documented_receivers() -> Iterator[Any]:
    """`verified` of the document's examples, as a reader would copy it."""
    for name, source in zip(("library", "plain Python"), documented("python"), strict=True):
        namespace: dict[str, Verified] = {}
        exec(source, namespace)  # noqa: S102 - our own document is what is tested
        yield pytest.param(namespace["verified"], id=name)


receivers = pytest.mark.parametrize("verified", list(documented_receivers()))


async def test_the_body_is_the_documented_one() -> None:
    request = await posted()
    example = json.loads(documented("json")[0])
    assert (request.method, request.target) == ("POST", "/hook?key=1")
    assert request.headers["content-type"] == "application/json"
    assert request.content == example | {"resolution_number": 2, "delivery_id": DELIVERY_ID}
    assert list(request.content) == list(example)


@pytest.mark.parametrize("header", ["webhook-id", "idempotency-key", "x-awoooi-delivery-id"])
async def test_the_delivery_id_is_the_idempotency_key(header: str) -> None:
    assert (await posted()).headers[header] == DELIVERY_ID


@receivers
@pytest.mark.parametrize("secret", [SECRET, PREFIXED])
async def test_a_documented_receiver_accepts_what_is_posted(verified: Verified, secret: str) -> None:
    request = await posted(secret)
    assert verified(secret, request.headers, request.body)


@receivers
@pytest.mark.parametrize("secret", [SECRET, PREFIXED])
async def test_a_documented_receiver_accepts_either_secret_of_a_rotation(
    verified: Verified, secret: str
) -> None:
    request = await posted(f"{PREFIXED}\n{SECRET}")
    assert verified(secret, request.headers, request.body)


SEVEN_SECONDS_AGO = "seven seconds ago"


@receivers
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"webhook-id": "INC-20260507-99ADF2/webhook/1"}, id="another id"),
        pytest.param({"webhook-timestamp": SEVEN_SECONDS_AGO}, id="another time"),
        pytest.param({"webhook-timestamp": "now"}, id="a time that is no number"),
        pytest.param({"webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="}, id="forged"),
        pytest.param({"webhook-signature": "sesame"}, id="a malformed signature"),
        pytest.param({"webhook-signature": ""}, id="no signature"),
        pytest.param({"webhook-timestamp": ""}, id="no time"),
        pytest.param({"webhook-id": ""}, id="no id"),
    ],
)
async def test_a_documented_receiver_rejects_other_headers(
    verified: Verified, change: Mapping[str, str]
) -> None:
    request = await posted()
    # Taken now, not when the tests are collected: a time of some minutes ago is rejected for being too old.
    seven_seconds_ago = str(int(time.time()) - 7)
    changed = {
        name: seven_seconds_ago if value is SEVEN_SECONDS_AGO else value for name, value in change.items()
    }
    assert not verified(SECRET, {**request.headers, **changed}, request.body)


@receivers
async def test_a_documented_receiver_rejects_another_body_and_another_secret(verified: Verified) -> None:
    request = await posted()
    assert not verified(SECRET, request.headers, request.body.replace(b"HIGH", b"INFO"))
    assert not verified("another secret", request.headers, request.body)
    assert not verified(PREFIXED, request.headers, request.body)


@receivers
@pytest.mark.parametrize("seconds", [-301, 310])
async def test_a_documented_receiver_rejects_a_replay(verified: Verified, seconds: int) -> None:
    request = await posted(now=time.time() + seconds)
    assert not verified(SECRET, request.headers, request.body)


def test_the_documented_rotation_has_two_secrets() -> None:
    [setting] = re.findall(r"INCIDENT_WEBHOOK_SECRET='(.*)'", "".join(documented("sh")))
    assert len(parse_secrets(setting)) == 2


async def test_each_attempt_posts_the_same_bytes_signed_with_its_own_time() -> None:
    first, second = [await posted(now=now) for now in (1_800_000_000.9, 1_800_000_060.0)]
    assert first.body == second.body
    assert first.headers["webhook-timestamp"] == "1800000000"
    assert second.headers["webhook-timestamp"] == "1800000060"


async def test_text_in_any_language_arrives_as_it_was() -> None:
    title = 'Платёж «упал» 💥 "\\ \u2028 </script>'
    async with receiver() as there, webhook(there.url()) as sender:
        await send(sender, resolution(title=title))
        assert (await there.received(1)).content["title"] == title


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
async def test_2xx_is_delivered(code: int) -> None:
    assert await outcome(status(code)) is None


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 410, 413, 422, 451, 499])
async def test_a_rejection_is_permanent_and_quotes_the_status_alone(code: int) -> None:
    error = await outcome(status(code, body=b"token=sesame is wrong"))
    assert isinstance(error, PermanentError)
    assert str(error) == f"the receiver answered {code}"


@pytest.mark.parametrize("code", [408, 429, 500, 501, 502, 503, 504, 599])
async def test_a_transient_failure_is_retried(code: int) -> None:
    error = await outcome(status(code, body=b"token=sesame is wrong"))
    assert isinstance(error, DeliveryError)
    assert str(error) == f"the receiver answered {code}"
    assert error.retry_after == timedelta(0)


@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after_is_honoured(code: int) -> None:
    error = await outcome(status(code, headers={"Retry-After": "120"}))
    assert isinstance(error, DeliveryError)
    assert error.retry_after == timedelta(seconds=120)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        pytest.param(reset, "the connection failed: ReadError", id="a reset"),
        pytest.param(hang_up, "the connection failed: RemoteProtocolError", id="no response"),
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
async def test_a_broken_response_is_retried_and_not_quoted(answer: Answer, text: str) -> None:
    error = await outcome(answer)
    assert isinstance(error, DeliveryError)
    assert str(error) == text


async def test_a_refused_connection_is_retried_and_its_url_not_quoted() -> None:
    async with webhook(f"http://127.0.0.1:{await free_port()}/sesame") as sender:
        with pytest.raises(DeliveryError, match=r"^cannot connect: ") as caught:
            await send(sender)
    assert "sesame" not in str(caught.value)


async def test_a_receiver_that_hangs_is_retried_after_the_timeout() -> None:
    error = await outcome(Held(status(204)), within=0.2)
    assert isinstance(error, DeliveryError)
    assert str(error) == "no answer within 0.2 s"


async def test_a_rejection_with_a_body_without_end_is_permanent() -> None:
    assert isinstance(await outcome(endless_body(400)), PermanentError)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(code: int) -> None:
    async with receiver() as elsewhere:
        error = await outcome(status(code, headers={"Location": elsewhere.url("/sesame")}))
        assert isinstance(error, DeliveryError)
        assert str(error) == f"the receiver answered {code}; redirects are not followed"
        assert elsewhere.requests == []


def test_an_invalid_url_is_refused_and_not_quoted() -> None:
    with pytest.raises(ValueError, match=r"^not a URL$") as caught:
        Webhook("http://[::1/sesame", SECRET, timeout=timedelta(seconds=1), connections=1)
    assert caught.value.__cause__ is None
