"""Responses with many items, serialized item by item.

A message of 3 MiB that is built, copied into its response and serialized as a whole holds the event loop for 10 ms in two pieces. On
the wire a repeated field is its elements one after the other, so each is serialized as soon as it is made, in slices between
which other calls go on.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

from google.protobuf.message import Message

from servicekit.rpc.event_loop_turns import current_turns

Item = TypeVar("Item")
Response = TypeVar("Response", bound=Message)

_LENGTH_DELIMITED = 2
_SEVEN_BITS = 0x7F


class SerializedResponse:
    """A response that is bytes already."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content


async def with_items(
    response: Response, field: str, items: Sequence[Item], convert: Callable[[Item], Message]
) -> Response:
    """Return `response` with the message of each item in its repeated field, for the server to send: its bytes, not a message."""
    number = response.DESCRIPTOR.fields_by_name[field].number
    tag = _varint(number << 3 | _LENGTH_DELIMITED)
    parts: list[bytes] = []
    turns = current_turns()
    remaining = iter(items)
    ended = False
    while not ended:
        async with turns.slice(is_first=not parts) as until:
            ended = _serialize(remaining, convert, tag, parts, until)
    parts.append(response.SerializeToString())
    # As the server's chain takes it; the methods of a servicer are typed by their messages.
    return cast(Response, SerializedResponse(b"".join(parts)))


def _serialize(
    items: Iterator[Item], convert: Callable[[Item], Message], tag: bytes, parts: list[bytes], until: float
) -> bool:
    """Serialize items until the time is over; tell whether there are no more."""
    for item in items:
        content = convert(item).SerializeToString()
        parts += (tag, _varint(len(content)), content)
        if time.perf_counter() >= until:
            return False
    return True


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    content = bytearray()
    while number > _SEVEN_BITS:
        content.append(number & _SEVEN_BITS | _SEVEN_BITS + 1)
        number >>= 7
    content.append(number)
    return bytes(content)
