"""Pages that fit into a message."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Position = TypeVar("Position")

# A client takes 4 MiB by default. Sizes are estimates, so some room is left.
_MAX_BYTES = 3 << 20


# Rows of a page that are in memory before their sizes are known: a hundred of the largest are some 14 MB.
_CHUNK = 100

# What a message takes besides its texts.
_FIXED_BYTES = 512


def text_bytes(*texts: str) -> int:
    """Return about how many bytes a message with these texts takes."""
    return _FIXED_BYTES + sum(len(text.encode()) for text in texts)


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
) -> tuple[Sequence[Item], bool]:
    """Return a page as `cut_page` does, read in chunks: rows that do not fit into it are not read, but for a chunk's rest.

    `fetch(after, limit)` returns at most `limit` items behind a position; `position` is that of an item.
    """
    page: list[Item] = []
    total = 0
    while True:
        limit = min(_CHUNK, page_size + 1 - len(page))
        chunk = await fetch(after, limit)
        for item in chunk:
            total += size(item)
            if len(page) == page_size or (page and total > _MAX_BYTES):
                return page, True
            page.append(item)
        if len(chunk) < limit:
            return page, False
        after = position(chunk[-1])
