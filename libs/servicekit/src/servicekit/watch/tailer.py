"""Polls new changes once for all watchers of this process, while there are any."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Any, Generic

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from servicekit.database.failure_log import FailureLog
from servicekit.outbox.transaction import Transactions
from servicekit.watch.epoch import FIRST_EPOCH, Epochs
from servicekit.watch.feed import Feed
from servicekit.watch.model import ChangeT, Position
from servicekit.watch.source import ChangeSource

_log = structlog.get_logger()

# The poll interval under load, without notifications: those cost the writers (see the trigger), and a poll costs the same
# for one change and for a hundred.
_BUSY_INTERVAL = timedelta(milliseconds=50)
# The poll interval when idle, where a notification wakes the tailer: the longest delay of a lost notification.
_IDLE_INTERVAL = timedelta(seconds=1)
# After so many empty polls in a row notifications are requested. A transaction that wrote its changes before the request
# and commits after it does not notify; as many polls more at the short interval find most of those.
_IDLE_POLLS = 3
# After so many polls with changes in a row notifications are stopped.
_BUSY_POLLS = 3
_RECONNECT = timedelta(seconds=1)
_PAGE = 500
# How long a page of a long batch waits for watchers that lag; after that they fall behind.
BACKPRESSURE_TIMEOUT = timedelta(seconds=1)


class Tailer(Generic[ChangeT]):
    """Fills `feed` from the database. Without watchers it costs nothing: no connection and no statement."""

    def __init__(
        self,
        transactions: Transactions,
        source: ChangeSource[Any, ChangeT, Any],
        feed: Feed[ChangeT],
        epochs: Epochs,
        *,
        backpressure_timeout: timedelta = BACKPRESSURE_TIMEOUT,
    ) -> None:
        self._transactions = transactions
        self._source = source
        self._feed = feed
        self._epochs = epochs
        self._backpressure_timeout = backpressure_timeout
        self._position: Position | None = None
        self._epoch = FIRST_EPOCH

    async def run(self, stop: asyncio.Event) -> None:
        """Feed until cancelled. When `stop` is set the streams end, so that the server does not wait for them."""
        draining = asyncio.create_task(self._drain_at(stop))
        try:
            # Also without watchers: the database may just have been restored.
            await self._epochs.prepare()
            while True:
                await self._feed.poll_now.wait()
                self._feed.poll_now.clear()
                if self._feed.watchers:
                    await self._feed_watchers()
        finally:
            draining.cancel()

    async def _drain_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._feed.drain()

    async def _feed_watchers(self) -> None:
        """Feed until there is no watcher, over as many connections as it takes."""
        failures = FailureLog("watch_read_failed")
        try:
            while self._feed.watchers:
                try:
                    await self._check_epoch()
                    async with self._transactions.session() as connection:
                        failures.succeeded()
                        await self._feed_over(connection)
                except Exception as exc:
                    # Watchers wait meanwhile and miss no change.
                    failures.failed(exc)
                    await asyncio.sleep(_RECONNECT.total_seconds())
        finally:
            self._position = None
            self._feed.reset()

    async def _check_epoch(self) -> None:
        """End the streams when the database is another one than before: behind a name, a restored one may take its place."""
        epoch = (await self._epochs.now()).epoch
        if self._position is not None and epoch != self._epoch:
            self._position = None
            self._feed.reset()
        self._epoch = epoch

    async def _feed_over(self, connection: AsyncConnection) -> None:
        driver = (await connection.get_raw_connection()).driver_connection
        if driver is None:
            raise ConnectionError("the pool gave a connection without a driver connection")
        await driver.add_listener(self._source.table.channel, lambda *_args: self._feed.poll_now.set())
        try:
            notified = False
            busy = idle = 0
            while self._feed.watchers:
                self._feed.poll_now.clear()
                if await self._poll(connection):
                    busy, idle = busy + 1, 0
                else:
                    busy, idle = 0, idle + 1
                if (notified and busy == _BUSY_POLLS) or (not notified and idle == _IDLE_POLLS):
                    notified = not notified
                    await self._source.table.request_notifications(connection, notified)
                interval = _IDLE_INTERVAL if idle >= 2 * _IDLE_POLLS else _BUSY_INTERVAL
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(interval.total_seconds()):
                        await self._feed.poll_now.wait()
        finally:
            # A connection that listens and holds a lock must not go back to the pool.
            await connection.invalidate()

    async def _poll(self, connection: AsyncConnection) -> bool:
        """Publish the changes committed since the last poll; return whether there were any."""
        if self._position is None:
            now = await self._source.table.now(connection)
            self._position = Position.at(now)
            self._feed.advance_watermark(now)
            return False
        if self._position.between_batches:
            now, has_changes = await self._source.table.poll(connection, self._position.since)
            if now.is_older_than(self._position.since):
                # A standby that lagged became the primary, or a backup was restored: published changes may be lost.
                _log.error("watch_database_went_back", seen=str(self._position.since), now=str(now))
                self._position = None
                self._feed.reset()
                return False
            self._position = Position(self._position.since, now, 0) if has_changes else Position.at(now)
            if not has_changes:
                self._feed.advance_watermark(now)
                return False
        # A poll that failed midway continues here with the same batch, without duplicates.
        while not self._position.between_batches:
            changes = await self._source.read_changes(connection, self._position, limit=_PAGE)
            if changes:
                self._position = changes[-1].position
                self._feed.publish(changes)
            if len(changes) == _PAGE:
                await self._feed.wait_for_slow(self._backpressure_timeout)
            else:
                self._position = Position.at(self._position.until)
                self._feed.advance_watermark(self._position.since)
        return True
