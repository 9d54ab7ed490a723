"""What a receiver of Apprise makes of a message: its format, its limits, its mentions.

Apprise knows these rules for each service, and applies them when its plugin is used: so a plugin that sends nothing tries
a text out. Text that does not fit would be refused by the service, or cut without a mark, in the middle of an entity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from apprise import NotifyBase, NotifyFormat, NotifyType, OverflowMode
from apprise.conversion import convert_between

from servicekit.notifications.mentions import defuse_links, defuse_mentions
from servicekit.notifications.message import Message

# Programs and mail clients know no mentions: they get the text as it is.
_WITHOUT_MENTIONS = frozenset({"amqp", "form", "json", "mailto", "mqtt", "rsyslog", "syslog", "xml"})
# Their limit is one of UTF-8 bytes. All others are taken to count as most do, in UTF-16 units.
_COUNTING_BYTES = frozenset({"gorush", "wechat", "wecombot"})
_SHORTEST = 10
# Of a header and of a section of Slack's Block Kit (`blocks=yes`), which Apprise does not know.
_BLOCK_TITLE, _BLOCK_TEXT = 150, 3000


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message as a receiver's plugin takes it."""

    title: str
    body: str
    body_format: NotifyFormat
    notify_type: NotifyType
    overflow: OverflowMode

    def send(self, plugin: NotifyBase) -> bool:
        """Send it by a plugin of the receiver."""
        plugin.overflow_mode = self.overflow
        return bool(
            plugin.notify(
                title=self.title,
                body=self.body,
                body_format=self.body_format,
                notify_type=self.notify_type,
            )
        )


def prepare(message: Message, trial: NotifyBase) -> Prepared:
    """Convert the message for a receiver, and shorten it to what the receiver takes. `trial` is a plugin that is used up.

    A URL with `overflow=split` gets all of it, in several messages.
    """
    rules = _Rules(trial)
    if trial.overflow_mode == OverflowMode.SPLIT:
        return rules.convert(message, OverflowMode.SPLIT)
    fits, too_long = 0, len(message) + 1
    while too_long - fits > 1:
        # The whole message first: it nearly always fits.
        size = len(message) if too_long > len(message) else (fits + too_long) // 2
        if size > _SHORTEST and not rules.takes(message.fit(size)):
            too_long = size
        else:
            fits = size
    return rules.convert(message.fit(max(fits, _SHORTEST)), OverflowMode.TRUNCATE)


class _Rules:
    """The rules of one receiver."""

    def __init__(self, trial: NotifyBase) -> None:
        names = _names(trial)
        self._knows_mentions = names.isdisjoint(_WITHOUT_MENTIONS)
        self._counts_bytes = not names.isdisjoint(_COUNTING_BYTES)
        self._trial = trial
        self._has_blocks = "slack" in names and bool(getattr(trial, "use_blocks", False))
        if self._has_blocks:
            trial.title_maxlen, trial.body_maxlen = _BLOCK_TITLE, _BLOCK_TEXT
        elif trial.overflow_amalgamate_title:
            # Apprise does not count the line break between the title and the body that it makes one text.
            trial.body_maxlen -= len("\r\n")
        self._format = trial.resolve_format(NotifyFormat.TEXT)
        self._sent: list[Mapping[str, Any]] = []
        # Some plugins have a sender for each format.
        for name in ("send", *(f"send_{each.value}" for each in NotifyFormat)):
            if hasattr(trial, name):
                setattr(trial, name, self._record)

    def convert(self, message: Message, overflow: OverflowMode) -> Prepared:
        """Convert a message as Apprise.notify() does, which Apprise's plugins by themselves do not all do."""
        title, body = self._texts(message)
        return self._converted(title, body, NotifyType(message.level), overflow)

    def takes(self, message: Message) -> bool:
        """Return whether the receiver takes the message whole, in one piece."""
        title, body = (self._as_counted(text) for text in self._texts(message))
        self._sent.clear()
        self._converted(title, body, NotifyType(message.level), OverflowMode.SPLIT).send(self._trial)
        return len(self._sent) <= 1

    def _record(self, **fields: Any) -> bool:
        self._sent.append(fields)
        return True

    def _texts(self, message: Message) -> tuple[str, str]:
        title, body = self._defused(message.title), self._defused(message.body)
        # A title of its own is cut by Apprise without a mark. Without one it is part of the body.
        if (limit := self._trial.title_maxlen) > 0:
            title = self._shorten(title, limit)
        if (lines := self._trial.body_max_line_count) > 0:
            # Apprise leaves out the lines behind.
            *kept, last = body.split("\n", lines - 1)
            body = "\n".join((*kept, last.replace("\n", " ")))
        return title, body

    def _defused(self, text: str) -> str:
        if not self._knows_mentions:
            return text
        return defuse_mentions(text if self._format is NotifyFormat.HTML else defuse_links(text))

    def _converted(self, title: str, body: str, notify_type: NotifyType, overflow: OverflowMode) -> Prepared:
        if self._trial.title_maxlen <= 0:
            title = self._formatted(title)
        return Prepared(title, self._formatted(body), self._format, notify_type, overflow)

    def _formatted(self, text: str) -> str:
        return str(convert_between(NotifyFormat.TEXT, self._format, text))  # type: ignore[no-untyped-call]

    def _shorten(self, text: str, limit: int) -> str:
        if len(self._as_counted(text)) <= limit:
            return text
        kept = text[:limit]
        while len(self._as_counted(kept)) > limit - 1:
            kept = kept[:-1]
        return f"{kept}…"

    def _as_counted(self, text: str) -> str:
        """Return a text that has one character for each unit that the receiver counts."""
        if self._has_blocks:
            # Slack's plugin escapes a header after it was cut.
            text = escape(text, quote=False)
        if self._counts_bytes:
            return "".join(each if each.isascii() else "x" * len(each.encode()) for each in text)
        return "".join(each if each <= "\uffff" else "xx" for each in text)


def _names(plugin: NotifyBase) -> frozenset[str]:
    """Return the schemes of a plugin's URLs."""
    names: set[str] = set()
    # Of the class: plugins use the name `protocol` for other things. None, a scheme, or several.
    schemes: Sequence[Any] = (type(plugin).protocol, type(plugin).secure_protocol)
    for each in schemes:
        names.update((each,) if isinstance(each, str) else each or ())
    return frozenset(names)
