"""What receivers of Apprise get: real plugins, their API replaced by a server of ours."""

import html
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import apprise
import pytest

from servicekit.formatting import shorten
from servicekit.notifications.message import Message
from servicekit.notifications.notifier import Notifier
from servicekit.notifications.receiver_rules import prepare
from tests.receiver import Receiver, receiver, status

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

INVISIBLE = "\u200b"


@dataclass(frozen=True)
class Service:
    """A chat: its URL, the address of its API in the plugin, its limit, and its text in a request."""

    url: str
    limit: int
    shown: Callable[[Mapping[str, Any]], str]
    api: Mapping[str, str] = field(default_factory=dict)
    plugin: str = ""
    answer: bytes = b'{"ok": true}'


def telegram_text(request: Mapping[str, Any]) -> str:
    """What a reader sees of Telegram's HTML; fails for markup that is not Apprise's own."""
    assert request["parse_mode"] == "HTML"
    assert set(re.findall(r"<[^>]*>", request["text"])) <= {"<b>", "</b>"}
    assert not re.search(r"&(?!(?:lt|gt|amp|quot|#\d+);)", request["text"])
    return html.unescape(re.sub(r"<[^>]*>", "", request["text"]))


SERVICES = {
    "Telegram": Service(
        "tgram://123456789:abcdefghij0123456789_abcdefghij01234/12315544/",
        4096,
        telegram_text,
        {"notify_url": "http://127.0.0.1:{port}/bot"},
        "telegram.NotifyTelegram",
    ),
    "Discord": Service(
        "discord://123456789012345678/" + "A" * 64,
        2000,
        lambda request: str(request["content"]),
        {"notify_url": "http://127.0.0.1:{port}/api/webhooks"},
        "discord.NotifyDiscord",
    ),
    "Mattermost": Service("mmost://127.0.0.1:{port}/" + "a" * 24, 4000, lambda request: str(request["text"])),
    "Rocket.Chat": Service(
        "rocket://webhook/tokenA/tokenB@127.0.0.1:{port}/#general".replace(
            "webhook/tokenA/tokenB", "aaaaaaaaa/bbbbbbbbb"
        ),
        1000,
        lambda request: re.sub(r"\\(.)", r"\1", request["text"]).removeprefix("# "),
    ),
}


MESSAGE_ID = "INC-20260507-99ADF2/notification/2"


def resolved(title: str = "disk full", note: str = "", action: str = "NO_ACTION") -> Message:
    return Message(
        f"Resolved: {title}",
        "INC-20260507-99ADF2, severity HIGH\nNO_ACTION by alice, 7 min 3 s after it was opened",
        "\n".join(filter(None, (f"Action: {action}", shorten(note, 500)))),
        MESSAGE_ID,
    )


async def sent(service: Service, what: Message, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """The one request of a notification."""
    async with receiver() as to:
        to.answers.append(status(200, body=service.answer))
        module, _, name = service.plugin.partition(".")
        for attribute, value in service.api.items():
            monkeypatch.setattr(f"apprise.plugins.{module}.{name}.{attribute}", value.format(port=to.port))
        notifier = Notifier(service.url.format(port=to.port), timeout=timedelta(seconds=30))
        await notifier.send(what, progress={})
        (request,) = to.requests
    content: Mapping[str, Any] = request.content
    return content


def read(text: str) -> str:
    """What a person reads."""
    return text.replace(INVISIBLE, "").replace("\r\n", "\n")


MARKUP = {
    "angle brackets": ("queue <orders> is full on db-1", "drained it"),
    "operators": ("if a<b && c>d then pages are slow", "see <ticket 4711>"),
    "a link": ("disk full", "all well, <a href='https://evil.example/login'>log in</a>"),
    "tags": ("certificate <b>expired</b>", "renewed &amp; &lt;deployed&gt;"),
}


@pytest.mark.parametrize("texts", MARKUP.values(), ids=MARKUP)
@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
async def test_people_read_what_was_written(
    service: Service, texts: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    what = resolved(*texts)
    shown = read(service.shown(await sent(service, what, monkeypatch)))
    assert shown == f"{what.title}\n{what.body}"


LONG = {
    "a long title": ("t" * 500, "", "NO_ACTION"),
    "a long reason": ("disk full", "", "NO_ACTION: " + "r" * 1000),
    "everything long": ("t" * 500, "n" * 2000, "NO_ACTION: " + "r" * 1000),
    "everything long, to be escaped": ("&<" * 250, "<>" * 1000, "NO_ACTION: " + "&" * 1000),
    "everything long, beyond the BMP": ("🔥" * 500, "🔥" * 2000, "NO_ACTION: " + "🔥" * 1000),
}


@pytest.mark.parametrize("texts", LONG.values(), ids=LONG)
@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
async def test_long_texts_are_shortened_with_a_mark_to_what_the_receiver_takes(
    service: Service, texts: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    what = resolved(*texts)
    request = await sent(service, what, monkeypatch)
    text = max((each for each in request.values() if isinstance(each, str)), key=len)
    assert len(text.encode("utf-16-le")) // 2 <= service.limit
    shown = read(service.shown(request))
    assert what.facts in shown
    assert shown.endswith(MESSAGE_ID)
    assert shown == f"{what.title}\n{what.body}" or "…" in shown
    # Not shorter than need be: markup takes up to six characters for one.
    assert len(shown) >= min(len(what), service.limit // 6)


SLACK_BLOCKS = Service(
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general?blocks=yes",
    3000,
    lambda request: "\n".join(
        html.unescape(block["text"]["text"]) for block in request["attachments"][0]["blocks"][:2]
    ),
    {"webhook_url": "http://127.0.0.1:{port}/services"},
    "slack.NotifySlack",
    b"ok",
)


@pytest.mark.parametrize("texts", LONG.values(), ids=LONG)
async def test_a_header_of_slack_has_at_most_150_characters_when_it_is_escaped(
    texts: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    what = resolved(*texts)
    request = await sent(SLACK_BLOCKS, what, monkeypatch)
    header, section, *_ = (block["text"]["text"] for block in request["attachments"][0]["blocks"][:2])
    assert len(header.encode("utf-16-le")) // 2 <= 150
    assert len(section.encode("utf-16-le")) // 2 <= 3000
    shown = read(SLACK_BLOCKS.shown(request))
    assert what.facts in shown
    assert html.unescape(header) == what.title or (
        header.endswith("…") and len(header.encode("utf-16-le")) // 2 > 140
    )


CHATS = [service for name, service in SERVICES.items() if name != "Telegram"]


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
async def test_mentions_are_defused_in_every_chat(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    what = resolved("@everyone look", "<!channel> <@U123> @here, says alice@example.org", "NO_ACTION: @all")
    request = await sent(service, what, monkeypatch)
    text = json.dumps(request, ensure_ascii=False)
    for mention in ("@everyone", "@here", "@all", "<!channel", "<@U123", "@U123"):
        assert mention not in text
    assert "alice@example.org" in read(service.shown(request))
    assert read(service.shown(request)).startswith("Resolved: @everyone look\n")


@pytest.mark.parametrize("service", CHATS, ids=[name for name in SERVICES if name != "Telegram"])
async def test_a_link_that_shows_another_text_is_defused_in_every_chat_that_understands_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = resolved("[log in](https://evil.example)", "<https://evil.example|log in>")
    text = json.dumps(await sent(service, what, monkeypatch), ensure_ascii=False).replace("\\", "")
    assert "](" not in text
    assert "<https://evil.example|" not in text


async def test_programs_get_the_text_unchanged() -> None:
    what = resolved("@everyone <!channel> [x](https://wiki.example)", "@here")
    async with receiver() as to:
        notifier = Notifier(f"json://127.0.0.1:{to.port}/", timeout=timedelta(seconds=30))
        await notifier.send(what, progress={})
        assert (to.requests[0].content["title"], to.requests[0].content["message"]) == (
            what.title,
            what.body,
        )


async def test_a_url_that_splits_gets_all_of_it_in_several_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    what = resolved("t" * 500, "n" * 2000, "NO_ACTION: " + "r" * 1000)
    async with receiver() as to:
        monkeypatch.setattr("apprise.plugins.rocketchat.NotifyRocketChat.request_rate_per_sec", 0)
        to.answers += [status(200, body=b"{}")] * 9
        notifier = Notifier(f"{rocket(to)}?overflow=split", timeout=timedelta(seconds=30))
        await notifier.send(what, progress={})
        texts = [request.content["text"] for request in to.requests]
    assert len(texts) > 1
    assert all(len(text) <= 1000 for text in texts)
    assert sum(text.count("r") for text in texts) >= 1000


def rocket(to: Receiver) -> str:
    return SERVICES["Rocket.Chat"].url.format(port=to.port)


TINY = {
    "an SMS": "plivo://" + "a" * 25 + "@" + "b" * 40 + "/15551234567/15551234568",
    "a pager": "dapnet://DF1ABC:password@DF1DEF",
    "a title of sixty": "zulip://botname@org/" + "a" * 32 + "/stream",
    "two lines": "kodi://127.0.0.1",
    "bytes": "wecombot://" + "a" * 36,
}


@pytest.mark.parametrize("url", TINY.values(), ids=TINY)
@pytest.mark.parametrize("character", ["t", "火", "🔥"])
def test_small_receivers_get_one_message_with_the_incident_in_it(url: str, character: str) -> None:
    message = Message(
        "Resolved: " + character * 490,
        "INC-20260507-99ADF2, severity HIGH\nHUMAN by alice",
        character * 1500,
        MESSAGE_ID,
    )
    plugin, trial = (apprise.Apprise.instantiate(url) for _ in range(2))
    assert plugin is not None
    assert trial is not None
    with patch.object(plugin, "send", return_value=True) as sending:
        assert prepare(message, trial).send(plugin)
    (call,) = (each.kwargs for each in sending.call_args_list)
    text = f"{call['title']}\n{call['body']}"
    assert "INC-20260507-99ADF2" in text
    assert "…" in text
    if plugin.title_maxlen > 0:
        assert len(call["title"].encode("utf-16-le")) // 2 <= plugin.title_maxlen
    if "wecombot" in url:
        assert len(call["body"].encode()) <= 2048
    if plugin.body_max_line_count > 0:
        assert len(call["body"].splitlines()) <= plugin.body_max_line_count
        # No line is lost.
        assert "HUMAN by alice" in call["body"]
