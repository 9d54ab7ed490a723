"""The feed that all watchers of a process share."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from servicekit.watch.errors import FeedEndedError, FellBehindError, TooManyWatchersError
from servicekit.watch.feed import Feed, Watcher
from servicekit.watch.model import Position, Witness
from servicekit.watch.snapshot import Snapshot

NOW = timedelta(0)
LONG = timedelta(seconds=60)


def snapshot(number: int) -> Snapshot:
    return Snapshot(number, number)


@dataclass(frozen=True)
class Change:
    """A change of nothing but its number and its size."""

    sequence: int
    characters: int = 3_000

    @property
    def position(self) -> Position:
        return Position(snapshot(1), snapshot(2), self.sequence)

    @property
    def witness(self) -> Witness:
        return Witness(str(self.sequence), "", datetime(2026, 5, 7, tzinfo=UTC))


def new_feed(**limits: int) -> Feed[Change]:
    return Feed(**limits)


def changes(*sequences: int) -> Sequence[Change]:
    return [Change(sequence) for sequence in sequences]


async def taken(feed: Feed[Change], watcher: Watcher) -> list[int]:
    """The sequence numbers of the changes that a watcher can take now."""
    found: list[int] = []
    while (each := await feed.take(watcher, NOW)) is not None:
        found.append(each.sequence)
    return found


async def test_a_watcher_gets_the_changes_after_the_watermark_it_joined_at() -> None:
    feed = new_feed(max_watchers=2)
    with feed.watcher() as watcher:
        feed.publish(changes(1, 2))
        feed.advance_watermark(snapshot(10))
        assert await feed.join(watcher, snapshot(10), NOW) == snapshot(10)
        assert await taken(feed, watcher) == []
        feed.publish(changes(3, 4))
        assert await taken(feed, watcher) == [3, 4]


async def test_a_watcher_that_joins_during_a_batch_gets_the_whole_batch() -> None:
    feed = new_feed(max_watchers=2)
    with feed.watcher() as early, feed.watcher() as watcher:
        feed.advance_watermark(snapshot(10))
        await feed.join(early, snapshot(10), NOW)
        feed.publish(changes(1))
        assert await taken(feed, early) == [1]
        feed.publish(changes(2))
        assert await feed.join(watcher, snapshot(9), NOW) == snapshot(10)
        feed.publish(changes(3))
        feed.advance_watermark(snapshot(11))
        assert await taken(feed, watcher) == [1, 2, 3]
        assert await taken(feed, early) == [2, 3]


async def test_a_watcher_ahead_of_the_watermark_waits_for_it() -> None:
    feed = new_feed(max_watchers=2)
    feed.advance_watermark(snapshot(10))
    with feed.watcher() as watcher:
        assert await feed.join(watcher, snapshot(11), NOW) is None
        assert feed.poll_now.is_set()
        joining = asyncio.create_task(feed.join(watcher, snapshot(11), LONG))
        await asyncio.sleep(0)
        feed.publish(changes(1))
        feed.advance_watermark(snapshot(12))
        assert await joining == snapshot(12)
        assert await taken(feed, watcher) == []


async def test_a_watcher_waits_for_the_next_change() -> None:
    feed = new_feed(max_watchers=2)
    feed.advance_watermark(snapshot(10))
    with feed.watcher() as watcher:
        await feed.join(watcher, snapshot(10), NOW)
        taking = asyncio.create_task(feed.take(watcher, LONG))
        await asyncio.sleep(0)
        (published,) = changes(1)
        feed.publish([published])
        assert await taking is published


async def test_a_watcher_that_has_taken_the_whole_batch_has_reached_the_watermark() -> None:
    feed = new_feed(max_watchers=2)
    feed.advance_watermark(snapshot(10))
    with feed.watcher() as watcher:
        await feed.join(watcher, snapshot(10), NOW)
        assert feed.watermark_reached_by(watcher) == snapshot(10)
        feed.publish(changes(1))
        await taken(feed, watcher)
        assert feed.watermark_reached_by(watcher) is None
        feed.advance_watermark(snapshot(11))
        assert feed.watermark_reached_by(watcher) == snapshot(11)


@pytest.mark.parametrize(
    ("max_changes", "max_characters"),
    [pytest.param(3, 1 << 20, id="by number"), pytest.param(100, 3 * 10_100, id="by size")],
)
async def test_only_a_watcher_beyond_the_backlog_limit_falls_behind(
    max_changes: int, max_characters: int
) -> None:
    feed = new_feed(max_watchers=2, max_changes=max_changes, max_characters=max_characters)
    feed.advance_watermark(snapshot(10))
    with feed.watcher() as slow, feed.watcher() as fast:
        for watcher in (slow, fast):
            await feed.join(watcher, snapshot(10), NOW)
        for sequence in range(1, 6):
            feed.publish([Change(sequence, characters=10_000)])
            assert await taken(feed, fast) == [sequence]
        assert feed.backlog == 3
        assert not feed.has_backlog_of(slow)
        assert feed.has_backlog_of(fast)
        with pytest.raises(FellBehindError):
            await feed.take(slow, NOW)


async def test_changes_that_every_watcher_has_taken_are_dropped() -> None:
    feed = new_feed(max_watchers=2)
    feed.advance_watermark(snapshot(10))
    with ExitStack() as leaves_last:
        last = leaves_last.enter_context(feed.watcher())
        with feed.watcher() as first:
            for watcher in (first, last):
                await feed.join(watcher, snapshot(10), NOW)
            feed.publish(changes(1, 2, 3))
            feed.advance_watermark(snapshot(11))
            await taken(feed, last)
            assert feed.backlog == 3
        assert feed.backlog == 0


async def test_backpressure_ends_when_a_lagging_watcher_catches_up() -> None:
    feed = new_feed(max_watchers=2, max_changes=4)
    feed.advance_watermark(snapshot(10))
    with feed.watcher() as watcher:
        await feed.join(watcher, snapshot(10), NOW)
        assert await taken(feed, watcher) == []
        feed.publish(changes(1, 2, 3))
        waiting = asyncio.create_task(feed.wait_for_slow(LONG))
        await asyncio.sleep(0)
        assert not waiting.done()
        await feed.take(watcher, NOW)
        await waiting


@pytest.mark.parametrize(
    "joined_only",
    [
        pytest.param(True, id="still reads missed changes"),
        pytest.param(False, id="fell behind already"),
    ],
)
async def test_there_is_no_backpressure_for_a_watcher_that(joined_only: bool) -> None:
    feed = new_feed(max_watchers=2, max_changes=4)
    feed.advance_watermark(snapshot(10))
    with feed.watcher() as watcher:
        await feed.join(watcher, snapshot(10), NOW)
        if not joined_only:
            await feed.take(watcher, NOW)
        feed.publish(changes(*range(1, 4 if joined_only else 8)))
        async with asyncio.timeout(LONG.total_seconds()):
            await feed.wait_for_slow(2 * LONG)


async def test_backpressure_ends_when_a_lagging_watcher_leaves() -> None:
    feed = new_feed(max_watchers=2, max_changes=4)
    feed.advance_watermark(snapshot(10))
    with feed.watcher() as watcher:
        await feed.join(watcher, snapshot(10), NOW)
        await feed.take(watcher, NOW)
        feed.publish(changes(1, 2, 3))
        waiting = asyncio.create_task(feed.wait_for_slow(2 * LONG))
        await asyncio.sleep(0)
        assert not waiting.done()
    async with asyncio.timeout(LONG.total_seconds()):
        await waiting


async def test_backpressure_ends_after_its_timeout() -> None:
    feed = new_feed(max_watchers=2, max_changes=4)
    feed.advance_watermark(snapshot(10))
    with feed.watcher() as watcher:
        await feed.join(watcher, snapshot(10), NOW)
        await feed.take(watcher, NOW)
        feed.publish(changes(1, 2, 3))
        await feed.wait_for_slow(NOW)


@pytest.mark.parametrize(
    "end", [pytest.param(Feed.drain, id="draining"), pytest.param(Feed.reset, id="reset")]
)
async def test_the_end_of_the_feed_ends_every_watcher(end: Callable[[Feed[Change]], None]) -> None:
    feed = new_feed(max_watchers=3)
    feed.advance_watermark(snapshot(10))
    with feed.watcher() as joined, feed.watcher() as joining, feed.watcher() as reading:
        for watcher in (joined, reading):
            await feed.join(watcher, snapshot(10), NOW)
        waiting = [
            asyncio.create_task(feed.take(joined, LONG)),
            asyncio.create_task(feed.join(joining, snapshot(11), LONG)),
        ]
        await asyncio.sleep(0)
        end(feed)
        for task in waiting:
            with pytest.raises(FeedEndedError):
                await task
        with pytest.raises(FeedEndedError):
            feed.has_backlog_of(reading)


async def test_a_draining_feed_refuses_watchers() -> None:
    feed = new_feed(max_watchers=1)
    feed.drain()
    with pytest.raises(FeedEndedError), feed.watcher():
        pass


async def test_a_watcher_after_a_reset_gets_no_old_change() -> None:
    feed = new_feed(max_watchers=1)
    feed.advance_watermark(snapshot(10))
    feed.publish(changes(1))
    feed.reset()
    with feed.watcher() as watcher:
        assert await feed.join(watcher, snapshot(5), NOW) is None
        feed.advance_watermark(snapshot(5))
        assert await feed.join(watcher, snapshot(5), NOW) == snapshot(5)
        feed.publish(changes(2))
        assert await taken(feed, watcher) == [2]


async def test_the_number_of_watchers_is_limited() -> None:
    feed = new_feed(max_watchers=1)
    with feed.watcher():
        with pytest.raises(TooManyWatchersError), feed.watcher():
            pass
        assert feed.watchers == 1
    with feed.watcher():
        assert feed.watchers == 1
