"""The latest changes, in memory once for all watchers of this process. Knows no database and no wire."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic

from servicekit.watch.errors import FeedEndedError, FellBehindError, TooManyWatchersError
from servicekit.watch.model import ChangeT, Watermark

# The longest backlog of a watcher. It is shared, so these limits bound the memory of all watchers together.
MAX_CHANGES = 4_000
MAX_CHARACTERS = 32 << 20


@dataclass(eq=False, slots=True)
class Watcher:
    """One stream's place in the feed: the number of the next change it takes, None before it has joined."""

    place: int | None = None
    # It takes changes. Before its first one it may still be reading older ones from the database, at its own pace.
    live: bool = False
    ended: bool = False


class Feed(Generic[ChangeT]):
    """Changes, numbered in the order of the stream, as far back as the slowest watcher needs them and the limits allow.

    They are published in batches. The watermark is how far the published batches are complete.
    """

    def __init__(
        self, *, max_watchers: int, max_changes: int = MAX_CHANGES, max_characters: int = MAX_CHARACTERS
    ) -> None:
        self._max_watchers = max_watchers
        self._max_changes = max_changes
        self._max_characters = max_characters
        self._changes: list[ChangeT] = []
        self._characters = 0
        # The number of the oldest change in memory.
        self._first = 0
        # None while the database is not read. With it, the number of the first change after it.
        self._watermark: Watermark | None = None
        self._watermark_end = 0
        self._watchers: set[Watcher] = set()
        self._draining = False
        self._changed = asyncio.Event()
        self._caught_up = asyncio.Event()
        # Set to poll the database now.
        self.poll_now = asyncio.Event()

    @property
    def watchers(self) -> int:
        """The number of watchers."""
        return len(self._watchers)

    @property
    def backlog(self) -> int:
        """The number of changes in memory."""
        return len(self._changes)

    @contextmanager
    def watcher(self) -> Iterator[Watcher]:
        """Register one stream as a watcher until the block ends.

        Raises TooManyWatchersError; FeedEndedError when the process is stopping.
        """
        if self._draining:
            raise FeedEndedError
        if len(self._watchers) >= self._max_watchers:
            raise TooManyWatchersError
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            self._trim()
            self._caught_up.set()
            if not self._watchers:
                self.poll_now.set()

    async def join(self, watcher: Watcher, since: Watermark, max_wait: timedelta) -> Watermark | None:
        """Place a watcher at the watermark as soon as it is not older than `since`; returns the watermark.

        Returns None when there is no such watermark within `max_wait`: the database does not respond. Raises
        FeedEndedError.
        """
        while self._watermark is None or self._watermark.is_older_than(since):
            self.check(watcher)
            self.poll_now.set()
            if not await _set_within(self._changed, max_wait):
                return None
        self.check(watcher)
        watcher.place = self._watermark_end
        watcher.live = False
        return self._watermark

    def has_backlog_of(self, watcher: Watcher) -> bool:
        """Return whether every change after the place of a watcher that has joined is still in memory.

        Raises FeedEndedError.
        """
        self.check(watcher)
        return watcher.place is not None and watcher.place >= self._first

    def check(self, watcher: Watcher) -> None:
        """Raises FeedEndedError when the watcher's stream has to end."""
        if watcher.ended:
            raise FeedEndedError

    async def take(self, watcher: Watcher, max_wait: timedelta) -> ChangeT | None:
        """Return the next change for a watcher that has joined, or None when there is none within `max_wait`.

        Raises FellBehindError when it was dropped; FeedEndedError.
        """
        if watcher.place is None:
            raise RuntimeError("a watcher takes changes after it has joined")
        watcher.live = True
        while True:
            self.check(watcher)
            if watcher.place < self._first:
                raise FellBehindError
            if watcher.place < self._end:
                change = self._changes[watcher.place - self._first]
                watcher.place += 1
                if self._end - watcher.place == self._half:
                    self._caught_up.set()
                return change
            if not await _set_within(self._changed, max_wait):
                return None

    def watermark_reached_by(self, watcher: Watcher) -> Watermark | None:
        """Return the watermark when the watcher has taken every change up to it and none after it, else None."""
        return self._watermark if watcher.place == self._watermark_end else None

    def publish(self, changes: Sequence[ChangeT]) -> None:
        """Append the next changes of a batch."""
        self._changes.extend(changes)
        self._characters += sum(change.characters for change in changes)
        self._trim()
        self._notify()

    def advance_watermark(self, watermark: Watermark) -> None:
        """Mark the batch as complete up to `watermark`."""
        self._watermark = watermark
        self._watermark_end = self._end
        self._notify()

    async def wait_for_slow(self, max_wait: timedelta) -> None:
        """Backpressure: return when no live watcher lags by more than half of the limit, at the latest after `max_wait`.

        A long batch is read faster than it is sent: without this every watcher would fall behind, not only a slow one.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max_wait.total_seconds()):
                while any(self._lags(watcher) for watcher in self._watchers):
                    self._caught_up.clear()
                    await self._caught_up.wait()

    def reset(self) -> None:
        """Drop all changes and the watermark, because the database is not read any more, and end all streams."""
        self._first = self._watermark_end = self._end
        self._changes.clear()
        self._characters = 0
        self._watermark = None
        self._end_all()

    def drain(self) -> None:
        """End all streams and refuse new ones, because the process is stopping."""
        self._draining = True
        self._end_all()

    @property
    def _end(self) -> int:
        return self._first + len(self._changes)

    @property
    def _half(self) -> int:
        return self._max_changes // 2

    def _lags(self, watcher: Watcher) -> bool:
        if not watcher.live or watcher.ended or watcher.place is None or watcher.place < self._first:
            return False
        return self._end - watcher.place > self._half

    def _end_all(self) -> None:
        for watcher in self._watchers:
            watcher.ended = True
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _trim(self) -> None:
        """Drop the changes that every watcher has taken, and those above the limits."""
        # A watcher that joins now starts at the watermark.
        places = [self._watermark_end, *(each.place for each in self._watchers if each.place is not None)]
        drop = max(min(places) - self._first, len(self._changes) - self._max_changes, 0)
        self._characters -= sum(change.characters for change in self._changes[:drop])
        while self._characters > self._max_characters:
            self._characters -= self._changes[drop].characters
            drop += 1
        del self._changes[:drop]
        self._first += drop


async def _set_within(event: asyncio.Event, max_wait: timedelta) -> bool:
    try:
        async with asyncio.timeout(max_wait.total_seconds()):
            await event.wait()
    except TimeoutError:
        return False
    return True
