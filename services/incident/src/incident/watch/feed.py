"""The latest changes, kept once for all watchers of this process. Knows no database and no wire."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from incident.watch.errors import FeedEndedError, FellBehindError, TooManyWatchersError
from incident.watch.model import Change, Snapshot

# A watcher may fall so far behind. What is kept is shared, so this bounds the memory of all watchers together.
MOST_CHANGES = 4_000
MOST_CHARACTERS = 32 << 20
# What an incident and its event take beyond their texts.
_CHANGE_CHARACTERS = 3_000


@dataclass(eq=False, slots=True)
class Watcher:
    """One stream's place in the feed: the number of the next change it takes, None before it has joined."""

    place: int | None = None
    # It takes changes: before its first one it may still be reading older ones elsewhere, at its own pace.
    live: bool = False
    ended: bool = False


class Feed:
    """Changes numbered in the order they are to be seen, as far back as a watcher needs them and room allows."""

    def __init__(
        self, *, most_watchers: int, most_changes: int = MOST_CHANGES, most_characters: int = MOST_CHARACTERS
    ) -> None:
        """Take at most `most_watchers`, and keep for the slowest at most what the two other limits say."""
        self._most_watchers = most_watchers
        self._most_changes = most_changes
        self._most_characters = most_characters
        self._changes: list[Change] = []
        self._characters = 0
        # The number of the oldest change kept.
        self._first = 0
        # What the last whole batch saw (None: nobody reads the database), and the number of the first change after it.
        self._seen: Snapshot | None = None
        self._seen_end = 0
        self._watchers: set[Watcher] = set()
        self._draining = False
        self._news = asyncio.Event()
        self._less_behind = asyncio.Event()
        # Set when somebody wants the database to be looked at now.
        self.look = asyncio.Event()

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @property
    def kept(self) -> int:
        """How many changes are in memory."""
        return len(self._changes)

    @contextmanager
    def watcher(self) -> Iterator[Watcher]:
        """Give one stream its place; it leaves with the block.

        Raises TooManyWatchersError; FeedEndedError when the process is stopping.
        """
        if self._draining:
            raise FeedEndedError
        if len(self._watchers) >= self._most_watchers:
            raise TooManyWatchersError
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            self._trim()
            self._less_behind.set()
            if not self._watchers:
                self.look.set()

    async def join(self, watcher: Watcher, seen: Snapshot, patience: timedelta) -> Snapshot | None:
        """Put a watcher behind a batch that saw all that `seen` did, and return what that batch saw.

        Returns None when there is no such batch within `patience`: the database does not answer. Raises FeedEndedError.
        """
        while self._seen is None or self._seen.is_older_than(seen):
            self.check(watcher)
            self.look.set()
            if not await _set_within(self._news, patience):
                return None
        self.check(watcher)
        watcher.place = self._seen_end
        watcher.live = False
        return self._seen

    def has_kept(self, watcher: Watcher) -> bool:
        """Tell whether everything behind the place of a watcher that has joined is still there for it.

        Raises FeedEndedError.
        """
        self.check(watcher)
        return watcher.place is not None and watcher.place >= self._first

    def check(self, watcher: Watcher) -> None:
        """Raises FeedEndedError when the watcher's stream has to end."""
        if watcher.ended:
            raise FeedEndedError

    async def take(self, watcher: Watcher, patience: timedelta) -> Change | None:
        """Return the next change for a watcher that has joined, or None when there is none within `patience`.

        Raises FellBehindError when it is not kept any more; FeedEndedError.
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
                    self._less_behind.set()
                return change
            if not await _set_within(self._news, patience):
                return None

    def seen_by(self, watcher: Watcher) -> Snapshot | None:
        """Return what the last whole batch saw when a watcher has taken all of it, else None."""
        return self._seen if watcher.place == self._seen_end else None

    def publish(self, changes: Sequence[Change]) -> None:
        """Append the next changes of a batch."""
        self._changes.extend(changes)
        self._characters += sum(_characters(change) for change in changes)
        self._trim()
        self._tell()

    def publish_end(self, seen: Snapshot) -> None:
        """Say that a batch is whole, and what it saw."""
        self._seen = seen
        self._seen_end = self._end
        self._tell()

    async def wait_for_slow(self, patience: timedelta) -> None:
        """Return when no watcher is behind by half of what is kept at most, and after `patience` in any case.

        A long batch is read faster than it is sent: without waiting everybody would fall behind, not the slow alone.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience.total_seconds()):
                while any(self._holds_up(watcher) for watcher in self._watchers):
                    self._less_behind.clear()
                    await self._less_behind.wait()

    def reset(self) -> None:
        """Forget everything, because nobody reads the database any more. Whoever watches has to begin anew."""
        self._first = self._seen_end = self._end
        self._changes.clear()
        self._characters = 0
        self._seen = None
        self._end_all()

    def drain(self) -> None:
        """End all streams and take no more, because the process stops."""
        self._draining = True
        self._end_all()

    @property
    def _end(self) -> int:
        return self._first + len(self._changes)

    @property
    def _half(self) -> int:
        return self._most_changes // 2

    def _holds_up(self, watcher: Watcher) -> bool:
        if not watcher.live or watcher.ended or watcher.place is None or watcher.place < self._first:
            return False
        return self._end - watcher.place > self._half

    def _end_all(self) -> None:
        for watcher in self._watchers:
            watcher.ended = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _trim(self) -> None:
        """Let go of what everybody has taken, and of what is too much."""
        # A watcher that joins now begins behind the last whole batch.
        places = [self._seen_end, *(each.place for each in self._watchers if each.place is not None)]
        drop = max(min(places) - self._first, len(self._changes) - self._most_changes, 0)
        self._characters -= sum(_characters(change) for change in self._changes[:drop])
        while self._characters > self._most_characters:
            self._characters -= _characters(self._changes[drop])
            drop += 1
        del self._changes[:drop]
        self._first += drop


async def _set_within(event: asyncio.Event, patience: timedelta) -> bool:
    try:
        async with asyncio.timeout(patience.total_seconds()):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _characters(change: Change) -> int:
    incident, event = change.incident, change.event
    return (
        _CHANGE_CHARACTERS
        + len(incident.title)
        + len(incident.description)
        + len(incident.resolution_note)
        + len(event.summary)
        + sum(len(name) + len(value) for name, value in incident.labels.items())
        + sum(len(name) + len(value) for name, value in event.attributes.items())
    )
