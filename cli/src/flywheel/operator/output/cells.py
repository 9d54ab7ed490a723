"""Values as cells of a table: times, enums, texts of others."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
# What a terminal would obey, or what changes the order of what is shown. Line breaks and tabs are the caller's.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class _Enum(Protocol):
    def Name(self, number: Any, /) -> str:  # noqa: N802 - protobuf's name
        """Return a value's name. Raises ValueError."""


def enum_name(enum: _Enum, prefix: str, number: int) -> str:
    """Return a value's name without its prefix; its number, when a newer server sent it; nothing for UNSPECIFIED."""
    if number == 0:
        return ""
    try:
        return enum.Name(number).removeprefix(prefix)
    except ValueError:
        return str(number)


def line(text: str) -> str:
    """Return a text of somebody else on one line, without what a terminal would obey."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))


def lines(text: str) -> str:
    """Return a text of several lines without what a terminal would obey."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def pairs(labels: Mapping[str, str]) -> str:
    """Return labels as `key=value`, in the order of their keys."""
    return " ".join(f"{line(key)}={line(labels[key])}" for key in sorted(labels))


def duration(seconds: float) -> str:
    """Return a span in its largest unit: 42s, 12m, 3h, 5d."""
    for unit, size in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE)):
        # One hour and a half says more than one hour.
        if seconds >= 2 * size or (unit == "m" and seconds >= size):
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"


def age(message: Message, field: str) -> str:
    """Return how long ago a time of a message is; nothing when it is unset."""
    if not message.HasField(field):
        return ""
    return duration((datetime.now(UTC) - _datetime(getattr(message, field))).total_seconds())


def time(message: Message, field: str) -> str:
    """Return a time of a message in UTC; nothing when it is unset."""
    return clock(getattr(message, field)) if message.HasField(field) else ""


def clock(stamp: Timestamp) -> str:
    """Return a time in UTC, to the second."""
    return _datetime(stamp).strftime("%Y-%m-%d %H:%M:%SZ")


def _datetime(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
