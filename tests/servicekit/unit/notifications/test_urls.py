"""URLs of receivers: how many, what separates them, which are refused, and that no secret in them is shown."""

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from servicekit.notifications.notifier import Notifier
from servicekit.notifications.receivers import NotifyUrlError, TooManyUrlsError
from servicekit.outbox.handler import DeliveryError, PermanentError
from tests.receiver import Answer, raw, receiver, reset, status
from tests.servicekit.unit.notifications.notifying import notifier, send, url

# Apprise imports it on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


TOKEN = "sesame-open-yourself"


def test_the_fan_out_is_bounded() -> None:
    with pytest.raises(TooManyUrlsError, match="has 51 URLs, expected at most 50"):
        notifier(*(f"json://127.0.0.1/{number}" for number in range(51)))


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
