"""The receivers of notifications, from a setting with Apprise URLs."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import apprise

# Fan-out of one message.
MAX_URLS = 50
# The channel of URLs without a name.
DEFAULT_CHANNEL = "default"

_NAME = r"[a-z0-9][a-z0-9-]{0,62}"
_URL_BEGIN = r"[A-Za-z0-9]+://"
# Between two URLs, and never inside one: some have commas and spaces in their query.
_BETWEEN_URLS = re.compile(rf"[\s,;]*[\r\n][\s,;]*|[\s,;]+(?={_URL_BEGIN})")
_BETWEEN_NAMED_URLS = re.compile(rf"[\s,;]*[\r\n][\s,;]*|[\s,;]+(?=(?:{_NAME}=)?{_URL_BEGIN})")
_NAMED_URL = re.compile(rf"({_NAME})=({_URL_BEGIN}.*)", re.DOTALL)


class NotifyUrlError(ValueError):
    """A URL is none that Apprise knows; `position` counts from 1. The URL itself is a secret and not in it."""

    def __init__(self, position: int, count: int) -> None:
        super().__init__(f"URL {position} of {count} is none that Apprise can use")
        self.position = position


class TooManyUrlsError(ValueError):
    """More URLs than one message is sent to."""

    def __init__(self, count: int) -> None:
        super().__init__(f"has {count} URLs, expected at most {MAX_URLS}")


@dataclass(slots=True)
class Receiver:
    """A URL of Apprise, and the sends to it that are running."""

    url: str = field(repr=False)
    # For people: position and service.
    name: str
    # For the job's row. Two bytes of the digest tell a changed URL from the old one, and no guessed one from another.
    key: str
    channels: frozenset[str]
    running: int = 0
    # When the next message may be sent, by the loop's clock.
    next_turn: float = 0.0
    # Sends, by message id and receiver key, that run longer than an attempt waits for them.
    overdue: set[tuple[str, str]] = field(default_factory=set)


def parse_receivers(urls: str, asset: apprise.AppriseAsset, *, named: bool) -> Sequence[Receiver]:
    """Return the receivers of URLs that are separated by white space or commas.

    With `named` a URL may be given as name=url, for the channel of that name; URLs of the same name are one channel, and
    a URL with several names is one receiver. Raises NotifyUrlError, TooManyUrlsError.
    """
    between = _BETWEEN_NAMED_URLS if named else _BETWEEN_URLS
    found = [url for part in between.split(urls) if (url := part.strip(" \t,;"))]
    if len(found) > MAX_URLS:
        raise TooManyUrlsError(len(found))
    receivers: dict[str, Receiver] = {}
    for position, each in enumerate(found, start=1):
        match = _NAMED_URL.fullmatch(each) if named else None
        channel, url = (match[1], match[2]) if match else (DEFAULT_CHANNEL, each)
        if url in receivers:
            receivers[url].channels |= {channel}
            continue
        try:
            plugin = apprise.Apprise.instantiate(url, asset=asset)
        except Exception:
            # Its exceptions may quote the URL.
            plugin = None
        if plugin is None:
            raise NotifyUrlError(position, len(found))
        digest = hashlib.sha256(url.encode()).hexdigest()
        name = f"URL {position} ({plugin.service_name})"
        receivers[url] = Receiver(url, name, f"{position}-{digest[:4]}", frozenset({channel}))
    return list(receivers.values())
