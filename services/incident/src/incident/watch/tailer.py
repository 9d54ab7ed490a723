"""Reads new changes once for all watchers of this process, while there are any."""

import asyncio
import contextlib
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.watch.feed import Feed
from incident.watch.model import Position
from incident.watch.repository import (
    NOTIFY_CHANNEL,
    ask_for_notifications,
    current_snapshot,
    look,
    read_changes,
)
from servicekit.database.engine import is_unavailable
from servicekit.outbox.transaction import Transactions

_log = structlog.get_logger()

# While changes keep coming they are looked for this often, without notifications: those have their price for the writers
# (see the trigger), and a look costs the same for one change and for a hundred.
_BUSY = timedelta(milliseconds=50)
# When it is quiet a notification wakes; a lost one costs at most about this long.
_QUIET = timedelta(seconds=1)
# So many looks in a row that find nothing mean that it is quiet: a notification is asked for. A transaction that wrote
# its events before that and commits after it does not notify; most of those are found by as many looks more.
_QUIET_LOOKS = 3
# So many in a row that find something mean that it is not.
_BUSY_LOOKS = 3
_RECONNECT = timedelta(seconds=1)
_PAGE = 500
# How long a page of a long batch waits for watchers that are far behind, before it leaves them behind.
_PATIENCE_FOR_SLOW = timedelta(seconds=1)


class Tailer:
    """Fills `feed` from the database. Costs nothing while nobody watches: no connection and no statement."""

    def __init__(self, transactions: Transactions, feed: Feed) -> None:
        self._transactions = transactions
        self._feed = feed
        self._position: Position | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Feed until cancelled. When `stop` is set the streams are ended, so that the server need not wait for them."""
        draining = asyncio.create_task(self._drain_at(stop))
        try:
            while True:
                await self._feed.look.wait()
                self._feed.look.clear()
                if self._feed.watchers:
                    await self._feed_watchers()
        finally:
            draining.cancel()

    async def _drain_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._feed.drain()

    async def _feed_watchers(self) -> None:
        """Feed until nobody watches, over as many connections as it takes."""
        try:
            while self._feed.watchers:
                try:
                    async with self._transactions.statement() as connection:
                        await self._feed_over(connection)
                except Exception as exc:
                    # Watchers wait meanwhile, and miss nothing.
                    _log.warning(
                        "watch_read_failed", error=type(exc).__name__, database_away=is_unavailable(exc)
                    )
                    await asyncio.sleep(_RECONNECT.total_seconds())
        finally:
            self._position = None
            self._feed.reset()

    async def _feed_over(self, connection: AsyncConnection) -> None:
        driver = (await connection.get_raw_connection()).driver_connection
        if driver is None:
            raise ConnectionError("the pool gave a connection without a driver connection")
        await driver.add_listener(NOTIFY_CHANNEL, lambda *_args: self._feed.look.set())
        try:
            asked = False
            busy = quiet = 0
            while self._feed.watchers:
                self._feed.look.clear()
                if await self._look(connection):
                    busy, quiet = busy + 1, 0
                else:
                    busy, quiet = 0, quiet + 1
                if (asked and busy == _BUSY_LOOKS) or (not asked and quiet == _QUIET_LOOKS):
                    asked = not asked
                    await ask_for_notifications(connection, asked)
                pause = _QUIET if quiet >= 2 * _QUIET_LOOKS else _BUSY
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause.total_seconds()):
                        await self._feed.look.wait()
        finally:
            # A connection that listens and holds a lock must not go back to the pool.
            await connection.invalidate()

    async def _look(self, connection: AsyncConnection) -> bool:
        """Publish what was committed since the last look; return whether there was any."""
        if self._position is None:
            now = await current_snapshot(connection)
            self._position = Position.at(now)
            self._feed.publish_end(now)
            return False
        if self._position.between_batches:
            now, news = await look(connection, self._position.since)
            if now.is_older_than(self._position.since):
                # A standby that had not received everything became the primary, or a backup was restored: what was
                # published may not have happened.
                _log.error("watch_database_went_back", seen=str(self._position.since), now=str(now))
                self._position = None
                self._feed.reset()
                return False
            self._position = Position(self._position.since, now, 0) if news else Position.at(now)
            if not news:
                self._feed.publish_end(now)
                return False
        # A look that failed in the middle goes on here: the batch stays the same, and nothing comes twice.
        while not self._position.between_batches:
            changes = await read_changes(connection, self._position, limit=_PAGE)
            if changes:
                self._position = changes[-1].position
                self._feed.publish(changes)
            if len(changes) == _PAGE:
                await self._feed.wait_for_slow(_PATIENCE_FOR_SLOW)
            else:
                self._position = Position.at(self._position.until)
                self._feed.publish_end(self._position.since)
        return True
