"""Pagination cursors: where the next page starts, HMAC-signed and bound to the request's filter.

The requests of List RPCs have the fields `page_size` and `page_token`; all others are the filter.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf.message import Message

from servicekit.rpc.page_tokens import PageTokens

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DEFAULT_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 1000


def page_size(requested: int) -> int:
    """Return how many items a page has: 50 when the request has 0, at most 1000."""
    return min(requested or _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)


def filter_bytes(request: Message, *unbound: str) -> bytes:
    """Return what a token is bound to: the request's type and its fields but those named."""
    bound = type(request).FromString(request.SerializeToString())
    for field in unbound:
        bound.ClearField(field)
    return type(request).__name__.encode() + b"\0" + bound.SerializeToString(deterministic=True)


def read_cursor(request: Message, tokens: PageTokens) -> Sequence[str | int] | None:
    """Return the position in the request's token; None for the first page. Raises InvalidPageTokenError."""
    token: str = request.page_token  # type: ignore[attr-defined]  # see above
    return tokens.read(filter_bytes(request, "page_size", "page_token"), token) if token else None


def write_cursor(request: Message, position: Sequence[str | int] | None, tokens: PageTokens) -> str:
    """Return the token of the page behind `position`; empty when there is none."""
    if position is None:
        return ""
    return tokens.make(filter_bytes(request, "page_size", "page_token"), position)


def read_id_cursor(request: Message, tokens: PageTokens) -> int | None:
    """Return the number that the page continues at; None for the first page. Raises InvalidPageTokenError."""
    position = read_cursor(request, tokens)
    return None if position is None else int(position[0])


def write_id_cursor(request: Message, position: int | None, tokens: PageTokens) -> str:
    """Return the token of the page that continues at the number `position`; empty when there is none."""
    return write_cursor(request, None if position is None else [position], tokens)


def read_time_cursor(request: Message, tokens: PageTokens) -> tuple[datetime, str] | None:
    """Return the time and id that the page continues behind; None for the first. Raises InvalidPageTokenError."""
    position = read_cursor(request, tokens)
    if position is None:
        return None
    microseconds, row_id = position
    return _EPOCH + int(microseconds) * _MICROSECOND, str(row_id)


def write_time_cursor(request: Message, position: tuple[datetime, str] | None, tokens: PageTokens) -> str:
    """Return the token of the page behind a time and id; empty when there is none."""
    if position is None:
        return ""
    time, row_id = position
    return write_cursor(request, [(time - _EPOCH) // _MICROSECOND, row_id], tokens)
