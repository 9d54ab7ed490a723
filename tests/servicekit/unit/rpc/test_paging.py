"""A page is read in chunks, until it is full by number or by size."""

from collections.abc import Sequence

import pytest

from servicekit.rpc.paging import cut_page, read_page

MEGABYTE = 1 << 20


class Rows:
    """The numbers from 1 to `count`, and how many were read."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.read = 0

    async def fetch(self, after: int | None, limit: int) -> Sequence[int]:
        """Return at most `limit` numbers above `after`."""
        first = (after or 0) + 1
        found = range(first, min(first + limit, self._count + 1))
        self.read += len(found)
        return found


def _size_of_kilobyte(_item: int) -> int:
    return 1024


@pytest.mark.parametrize("count", [0, 1, 49, 50, 99, 100, 101, 250, 999, 1000, 1001, 2000])
@pytest.mark.parametrize("page_size", [1, 50, 99, 100, 1000])
@pytest.mark.parametrize("item_bytes", [1, 30_000, 4 * MEGABYTE])
async def test_a_page_read_in_chunks_is_the_page_cut_from_all_rows(
    count: int, page_size: int, item_bytes: int
) -> None:
    page, behind = await read_page(
        Rows(count).fetch,
        after=None,
        position=lambda each: each,
        page_size=page_size,
        size=lambda _: item_bytes,
    )
    everything = range(1, count + 1)
    expected, follows = cut_page(everything[: page_size + 1], page_size, lambda _: item_bytes)
    assert (list(page), behind) == (list(expected), expected[-1] if follows else None)


async def test_rows_beyond_the_size_of_a_page_are_not_read_but_for_the_rest_of_a_chunk() -> None:
    rows = Rows(10_000)
    page, behind = await read_page(
        rows.fetch, after=None, position=lambda each: each, page_size=1000, size=lambda _: 138_000
    )
    assert (len(page), behind) == (22, 22)
    assert rows.read == 25


async def test_small_rows_are_read_in_few_round_trips() -> None:
    round_trips = 0

    async def fetch(after: int | None, limit: int) -> Sequence[int]:
        nonlocal round_trips
        round_trips += 1
        return await Rows(10_000).fetch(after, limit)

    page, _ = await read_page(
        fetch, after=None, position=lambda each: each, page_size=1000, size=_size_of_kilobyte
    )
    assert len(page) == 1000
    assert round_trips <= 5


async def test_a_page_begins_behind_its_position() -> None:
    page, _ = await read_page(
        Rows(500).fetch, after=120, position=lambda each: each, page_size=150, size=_size_of_kilobyte
    )
    assert list(page) == list(range(121, 271))
