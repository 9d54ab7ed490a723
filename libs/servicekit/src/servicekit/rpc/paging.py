"""Pages that fit into a message, read without keeping the event loop from other calls."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Position = TypeVar("Position")

# A client takes 4 MiB by default. Sizes are estimates, so some room is left.
_MAX_BYTES = 3 << 20

# Rows of a page that are read before their sizes are known: of the largest some 2 MB. Decoding a chunk holds the event loop.
_FIRST_CHUNK = 16
# Of the chunks after it, by the sizes of the rows so far.
_CHUNK_BYTES = 512 << 10
_LARGEST_CHUNK = 256

# What a message takes besides its texts.
_FIXED_BYTES = 512


def text_bytes(*texts: str) -> int:
    """Return about how many bytes a message with these texts takes."""
    return _FIXED_BYTES + sum(len(text) if text.isascii() else len(text.encode()) for text in texts)


def cut_page(
    found: Sequence[Item], page_size: int, size: Callable[[Item], int]
) -> tuple[Sequence[Item], bool]:
    """Return the first of `found` that make a page, and whether more follow.

    A page has at most `page_size` items, and fewer, but at least one, when they are large: `size` returns about how many
    bytes an item takes.
    """
    taken = 0
    total = 0
    for item in found[:page_size]:
        total += size(item)
        if taken and total > _MAX_BYTES:
            break
        taken += 1
    return found[:taken], taken < len(found)


async def read_page(
    fetch: Callable[[Position | None, int], Awaitable[Sequence[Item]]],
    *,
    after: Position | None,
    position: Callable[[Item], Position],
    page_size: int,
    size: Callable[[Item], int],
    examined_to: Callable[[Position | None], Awaitable[Position | None]] | None = None,
) -> tuple[Sequence[Item], Position | None]:
    """Return a page as `cut_page` does, and the position that the next one begins behind; None: it is the last page.

    It is read in chunks: rows that do not fit into it are not read, but for a chunk's rest.

    `fetch(after, limit)` returns at most `limit` items behind a position; `position` is that of an item. Where fewer do not
    mean that there are no more, `examined_to(after)` returns the position up to which `fetch` has looked, None for the end.
    """
    page: list[Item] = []
    total = 0
    rows = _FIRST_CHUNK
    while True:
        limit = min(rows, page_size + 1 - len(page))
        chunk = await fetch(after, limit)
        for item in chunk:
            total += size(item)
            if len(page) == page_size or (page and total > _MAX_BYTES):
                return page, position(page[-1])
            page.append(item)
        if len(chunk) < limit:
            return page, None if examined_to is None else await examined_to(after)
        after = position(chunk[-1])
        rows = min(_LARGEST_CHUNK, max(1, _CHUNK_BYTES * len(page) // max(total, 1)))
