"""Pages that fit into a message."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

# A client takes 4 MiB by default. Sizes are estimates, so some room is left.
_MAX_BYTES = 3 << 20


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
