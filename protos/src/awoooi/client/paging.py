"""Lists: iterate over the items, over the pages, or get one page."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Generic, TypeVar

from awoooi.client.call import Call, Item, Listing, Page, PageResponse

Fetched = TypeVar("Fetched", bound=PageResponse)


class AsyncPager(Generic[Page, Item]):
    """A list that is fetched while it is iterated over; each iteration begins anew."""

    def __init__(self, fetch: Callable[[Call[Page]], Awaitable[Page]], listing: Listing[Page, Item]) -> None:
        self._fetch = fetch
        self._listing = listing

    async def page(self) -> Page:
        """Return one page: the one of `page_token` and `page_size`."""
        return await self._fetch(self._listing.first())

    async def pages(self) -> AsyncIterator[Page]:
        """Yield page after page; the last has no `next_page_token`."""
        call: Call[Page] | None = self._listing.first()
        while call is not None:
            page = await self._fetch(call)
            yield page
            call = self._listing.after(page)

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for page in self.pages():
            for item in self._listing.items(page):
                yield item


class SyncPager(Generic[Page, Item]):
    """A list that is fetched while it is iterated over; each iteration begins anew."""

    def __init__(self, fetch: Callable[[Call[Page]], Page], listing: Listing[Page, Item]) -> None:
        self._fetch = fetch
        self._listing = listing

    def page(self) -> Page:
        """Return one page: the one of `page_token` and `page_size`."""
        return self._fetch(self._listing.first())

    def pages(self) -> Iterator[Page]:
        """Yield page after page; the last has no `next_page_token`."""
        call: Call[Page] | None = self._listing.first()
        while call is not None:
            page = self._fetch(call)
            yield page
            call = self._listing.after(page)

    def __iter__(self) -> Iterator[Item]:
        for page in self.pages():
            yield from self._listing.items(page)
