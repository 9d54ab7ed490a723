"""Notifications through Apprise against a real HTTP server."""

import asyncio
import itertools
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from servicekit.notifications.message import Message
from servicekit.notifications.notifier import Notifier
from servicekit.notifications.receivers import NotifyUrlError, TooManyUrlsError
from servicekit.outbox.handler import DeliveryError, PermanentError
from tests.eventually import eventually
from tests.receiver import Answer, Held, Receiver, free_port, hang_up, raw, receiver, reset, status

# Apprise imports it on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

MESSAGE = Message("Resolved: disk full", "severity HIGH", "observed", "INC-20260507-99ADF2/notification/2")
TOKEN = "sesame-open-yourself"


def url(to: Receiver, path: str = "/") -> str:
    """A URL of Apprise's that posts JSON to a receiver."""
    return f"json://127.0.0.1:{to.port}{path}"


def notifier(*urls: str, seconds: float = 30.0) -> Notifier:
    return Notifier(" ".join(urls), timeout=timedelta(seconds=seconds))


async def send(
    by: Notifier,
    what: Message = MESSAGE,
    *,
    progress: Mapping[str, Any] | None = None,
    channels: Collection[str] | None = None,
) -> None:
    await by.send(what, progress=progress or {}, channels=channels)


async def failure(
    by: Notifier, *, progress: Mapping[str, Any] | None = None
) -> DeliveryError | PermanentError:
    """The error of an attempt that must fail."""
    with pytest.raises((DeliveryError, PermanentError)) as caught:
        await send(by, progress=progress)
    assert isinstance(caught.value, DeliveryError | PermanentError)
    return caught.value


async def test_every_receiver_gets_title_facts_details_and_last_the_id() -> None:
    async with receiver() as one, receiver() as two:
        await send(notifier(url(one), url(two)))
        for each in (one, two):
            (request,) = each.requests
            assert (request.content["title"], request.content["type"]) == ("Resolved: disk full", "info")
            assert request.content["message"] == (
                "severity HIGH\nobserved\nINC-20260507-99ADF2/notification/2"
            )


async def test_the_level_is_sent() -> None:
    async with receiver() as there:
        await send(notifier(url(there)), replace(MESSAGE, level="failure"))
        assert there.requests[0].content["type"] == "failure"


async def test_markup_is_sent_as_plain_text() -> None:
    markup = replace(MESSAGE, details="<b>bold</b> & {{ secret }} :smile: \\n")
    async with receiver() as plain, receiver() as html:
        await send(notifier(url(plain), url(html, "/?format=html")), markup)
        assert "\n<b>bold</b> & {{ secret }} :smile: \\n\n" in plain.requests[0].content["message"]
        assert "<b>" not in html.requests[0].content["message"]


def named(*urls: str, seconds: float = 30.0) -> Notifier:
    return Notifier("\n".join(urls), timeout=timedelta(seconds=seconds), named=True)


async def test_only_the_receivers_of_the_channels_are_notified() -> None:
    async with receiver() as one, receiver() as two, receiver() as three:
        by = named(f"oncall={url(one)}", f"payments={url(two)}", url(three))
        assert by.channels == {"oncall", "payments", "default"}
        for channels, counts in (
            ({"oncall"}, (1, 0, 0)),
            ({"payments", "default"}, (1, 1, 1)),
            (set(), (1, 1, 1)),
            ({"unknown"}, (1, 1, 1)),
            (None, (2, 2, 2)),
        ):
            await send(by, channels=channels)
            assert (len(one.requests), len(two.requests), len(three.requests)) == counts


async def test_a_url_of_two_channels_is_notified_once() -> None:
    async with receiver() as there:
        by = named(f"oncall={url(there)}", f"payments={url(there)}")
        await send(by, channels={"oncall", "payments"})
        await send(by, channels={"payments"})
        assert len(there.requests) == 2


async def test_a_receiver_of_another_channel_does_not_count_as_notified() -> None:
    async with receiver() as one, receiver() as two:
        by = named(f"oncall={url(one)}", f"payments={url(two)}")
        one.answers.append(status(500))
        with pytest.raises(DeliveryError) as caught:
            await send(by, channels={"oncall"})
        # The routes were changed meanwhile.
        await send(by, progress=caught.value.progress, channels={"payments"})
        assert (len(one.requests), len(two.requests)) == (1, 1)


async def test_a_name_is_part_of_the_url_where_channels_have_no_names() -> None:
    with pytest.raises(NotifyUrlError):
        notifier("oncall=json://127.0.0.1")


async def test_messages_to_a_receiver_are_an_interval_apart_and_each_receiver_has_its_own_turn() -> None:
    async with receiver() as one, receiver() as two:
        urls = f"oncall={url(one)} payments={url(two)}"
        by = Notifier(urls, timeout=timedelta(seconds=30), interval=timedelta(seconds=0.2), named=True)
        begin = asyncio.get_running_loop().time()
        await asyncio.gather(*(send(by, replace(MESSAGE, message_id=f"{number}")) for number in range(4)))
        assert asyncio.get_running_loop().time() - begin >= 0.6
        assert (len(one.requests), len(two.requests)) == (4, 4)


def test_the_fan_out_is_bounded() -> None:
    with pytest.raises(TooManyUrlsError, match="has 51 URLs, expected at most 50"):
        notifier(*(f"json://127.0.0.1/{number}" for number in range(51)))


async def test_a_retry_notifies_only_receivers_that_were_not_notified() -> None:
    async with receiver() as one, receiver() as two:
        by = notifier(url(one), url(two))
        two.answers.append(status(500))
        error = await failure(by)
        assert isinstance(error, DeliveryError)
        assert str(error) == "URL 2 (JSON): answered 500"
        await send(by, progress=error.progress)
        assert (len(one.requests), len(two.requests)) == (1, 2)


async def test_progress_accumulates_over_several_retries() -> None:
    async with receiver() as one, receiver() as two, receiver() as three:
        urls = url(one), url(two), url(three)
        two.answers += [status(503), status(503)]
        three.answers += [status(503)]
        first = await failure(notifier(*urls))
        # Another process, which knows the job only.
        second = await failure(notifier(*urls), progress=first.progress)
        assert str(second) == "URL 2 (JSON): answered 503"
        await send(notifier(*urls), progress=second.progress)
        assert [len(each.requests) for each in (one, two, three)] == [1, 3, 2]


async def test_a_new_url_at_the_position_of_a_notified_one_is_notified() -> None:
    async with receiver() as one, receiver() as two, receiver() as other:
        two.answers.append(status(500))
        error = await failure(notifier(url(one), url(two)))
        await send(notifier(url(other), url(two)), progress=error.progress)
        assert (len(other.requests), len(two.requests)) == (1, 2)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 422])
async def test_a_refusal_is_permanent(code: int) -> None:
    async with receiver() as there:
        there.answers.append(status(code))
        error = await failure(notifier(url(there)))
        assert isinstance(error, PermanentError)
        assert str(error) == f"URL 1 (JSON): answered {code}"


@pytest.mark.parametrize(
    "answer",
    [
        *[pytest.param(status(code), id=str(code)) for code in (408, 425, 429, 500, 502, 503, 504)],
        pytest.param(status(302, headers={"Location": "http://127.0.0.1:9/"}), id="a redirect"),
        pytest.param(reset, id="a reset"),
        pytest.param(hang_up, id="no answer at all"),
        pytest.param(raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), id="not HTTP"),
    ],
)
async def test_a_transient_failure_is_retried(answer: Answer) -> None:
    async with receiver() as there:
        there.answers.append(answer)
        by = notifier(url(there))
        error = await failure(by)
        assert isinstance(error, DeliveryError)
        await send(by, progress=error.progress)


async def test_an_unreachable_receiver_is_retried() -> None:
    assert isinstance(await failure(notifier(f"json://127.0.0.1:{await free_port()}/")), DeliveryError)


async def test_a_refusal_is_not_permanent_while_another_receiver_can_be_retried() -> None:
    async with receiver() as refusing, receiver() as healing:
        by = notifier(url(refusing), url(healing))
        refusing.answers += [status(404), status(404)]
        healing.answers.append(status(500))
        first = await failure(by)
        assert isinstance(first, DeliveryError)
        second = await failure(by, progress=first.progress)
        assert isinstance(second, PermanentError)
        # Re-queued once the receiver is repaired: only that one is notified.
        await send(by, progress=second.progress)
        assert (len(refusing.requests), len(healing.requests)) == (3, 2)


async def test_redirects_are_not_followed() -> None:
    async with receiver() as there, receiver() as elsewhere:
        there.answers.append(status(307, headers={"Location": elsewhere.url()}))
        await failure(notifier(url(there)))
        assert elsewhere.requests == []


async def test_a_send_that_succeeds_after_the_timeout_is_not_repeated() -> None:
    async with receiver() as there:
        held = Held(status(200))
        there.answers.append(held)
        by = notifier(url(there, "/?rto=60"), seconds=0.3)
        error = await failure(by)
        assert isinstance(error, DeliveryError)
        assert str(error) == "URL 1 (JSON): no answer within 0.3 s"
        held.release.set()
        await eventually(lambda: notified(by, error.progress))
        assert len(there.requests) == 1


async def test_a_send_that_fails_after_the_timeout_is_repeated() -> None:
    async with receiver() as there:
        held = Held(status(500))
        there.answers.append(held)
        by = notifier(url(there, "/?rto=60"), seconds=0.3)
        error = await failure(by)
        held.release.set()
        await eventually(lambda: notified(by, error.progress))
        assert len(there.requests) == 2


async def notified(by: Notifier, progress: Mapping[str, Any]) -> bool:
    """Send once more; returns whether every receiver is notified."""
    try:
        await send(by, progress=progress)
    except DeliveryError:
        return False
    return True


async def test_a_receiver_that_hangs_uses_a_bounded_number_of_threads_and_delays_no_other() -> None:
    async with receiver() as hanging, receiver() as well:
        hanging.answers += [Held(status(200))] * 100
        by = notifier(url(hanging, "/?rto=60"), url(well), seconds=0.3)

        async def one(number: int) -> str:
            with pytest.raises(DeliveryError) as caught:
                await by.send(replace(MESSAGE, message_id=f"{number}"), progress={})
            return str(caught.value)

        await asyncio.gather(*(one(number) for number in range(12)))
        # On a loaded machine the other one may be late as well, for once: nothing holds it up.
        later = itertools.count(13)
        await eventually(
            lambda: one(next(later)), lambda said: said == "URL 1 (JSON): still busy with earlier messages"
        )
        assert len(hanging.requests) <= 8


async def test_a_receiver_that_hangs_is_waited_for_once_and_then_holds_up_no_attempt() -> None:
    async with receiver() as hanging:
        held = Held(status(200))
        hanging.answers.append(held)
        by = notifier(url(hanging, "/?rto=60"), seconds=0.3)
        await failure(by)
        # From now on an attempt that waits would wait for ever.
        by._timeout = 3600.0
        async with asyncio.timeout(30):
            assert "no answer within" in str(await failure(by))
            with pytest.raises(DeliveryError, match="still busy with earlier messages"):
                await send(by, replace(MESSAGE, message_id="another"))
            held.release.set()
            await eventually(lambda: notified(by, {}))
            await send(by, replace(MESSAGE, message_id="another"))
        assert len(hanging.requests) == 2


@pytest.mark.parametrize(
    ("urls", "position", "count"),
    [
        pytest.param("sesame", 1, 1, id="no URL at all"),
        pytest.param("json://", 1, 1, id="no host"),
        pytest.param("nobody://sesame@127.0.0.1", 1, 1, id="an unknown service"),
        pytest.param("tgram://sesame/", 1, 1, id="a token of the wrong shape"),
        pytest.param("json://127.0.0.1 nobody://sesame", 2, 2, id="the second of two"),
        pytest.param("json://127.0.0.1\nsesame\njson://127.0.0.1", 2, 3, id="a line that is no URL"),
    ],
)
def test_an_unusable_url_is_named_by_its_position(urls: str, position: int, count: int) -> None:
    with pytest.raises(NotifyUrlError) as caught:
        Notifier(urls, timeout=timedelta(seconds=1))
    assert str(caught.value) == f"URL {position} of {count} is none that Apprise can use"
    assert caught.value.position == position


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(" ", id="a space"),
        pytest.param(",", id="a comma"),
        pytest.param(", ", id="a comma and a space"),
        pytest.param(";", id="a semicolon"),
        pytest.param("\n", id="a line break"),
        pytest.param("\r\n\r\n", id="an empty line"),
    ],
)
async def test_urls_are_separated_by(between: str) -> None:
    async with receiver() as there:
        await send(notifier(f"{between}{url(there, '/one/?-a=b,c')}{between}{url(there, '/two/')}{between}"))
        assert sorted(request.target for request in there.requests) == ["/one/?a=b%2Cc", "/two/"]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Everything that reaches the root logger, at every level."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root, keep = logging.getLogger(), Keep(logging.NOTSET)
    level = root.level
    root.addHandler(keep)
    root.setLevel(logging.NOTSET)
    yield lines
    root.removeHandler(keep)
    root.setLevel(level)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(status(200), id="success"),
        pytest.param(status(404, body=TOKEN.encode()), id="a refusal"),
        pytest.param(status(302, headers={"Location": f"/{TOKEN}"}), id="a redirect"),
        pytest.param(reset, id="a reset"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\n: broken\r\nnonsense\r\nContent-Length: 0\r\n\r\n"), id="broken headers"
        ),
        pytest.param(raw(TOKEN.encode() + b"\r\n\r\n"), id="not HTTP"),
    ],
)
async def test_no_secret_is_logged_or_raised(
    answer: Answer, logged: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    async with receiver() as there:
        there.answers.append(answer)
        by = notifier(f"json://user:{TOKEN}@127.0.0.1:{there.port}/{TOKEN}/?+X-Key={TOKEN}")
        error: Exception | None = None
        try:
            await send(by)
        except (DeliveryError, PermanentError) as exc:
            error = exc
        assert TOKEN in there.requests[0].target
    written = capfd.readouterr()
    assert TOKEN not in f"{error!r} {written} {logged} {getattr(error, 'progress', '')}"
