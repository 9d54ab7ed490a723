"""Watch: existing records, missed changes and live changes, one stream without a gap."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Generic, TypeVar

from servicekit.outbox.transaction import Transactions
from servicekit.rpc.current_read_place import current_read_place
from servicekit.watch.epoch import Epochs
from servicekit.watch.errors import (
    FeedEndedError,
    FellBehindError,
    ResumeTokenAheadError,
    ResumeTokenOfOtherDatabaseError,
    WatchEndedError,
    WatcherTooSlowError,
)
from servicekit.watch.feed import Feed, Watcher
from servicekit.watch.model import ChangeT, Criteria, MakeToken, Position, RecordT, ResumePoint, Step
from servicekit.watch.source import ChangeSource

CriteriaT = TypeVar("CriteriaT", bound=Criteria[Any])

# The contract promises 30 s.
HEARTBEAT = timedelta(seconds=20)
# Changes read at a time, and held in memory by a stream that is blocked.
_PAGE = 100
# Streams that read missed changes at a time: many that resume at once leave connections for other calls.
_READERS = 2


class WatchUseCase(Generic[CriteriaT, ChangeT, RecordT]):
    """Streams changes: missed ones are read from the database at the watcher's pace, live ones come from the feed.

    Records that retention has removed, and their changes, are skipped.
    """

    def __init__(
        self,
        transactions: Transactions,
        source: ChangeSource[CriteriaT, ChangeT, RecordT],
        feed: Feed[ChangeT],
        epochs: Epochs,
        *,
        reads: Transactions,
        heartbeat: timedelta = HEARTBEAT,
    ) -> None:
        """Send a heartbeat when nothing else was sent for `heartbeat`. `reads` serves the existing records: they are a list."""
        self._transactions = transactions
        self._reads = reads
        self._source = source
        self._epochs = epochs
        self._readers = asyncio.Semaphore(_READERS)
        self._feed = feed
        self._heartbeat = heartbeat

    async def watch(
        self, criteria: CriteriaT, *, resume: ResumePoint | None, include_existing: bool, token: MakeToken
    ) -> AsyncIterator[Step[ChangeT, RecordT]]:
        """Yield the changes after `resume` that match (None: from now on, after the existing records if requested).

        The first step, or the first after the existing records, is a heartbeat: the stream can be resumed from it.

        Raises TooManyWatchersError, ResumeTokenAheadError, ResumeTokenOfOtherDatabaseError; WatcherTooSlowError and
        WatchEndedError with the latest token.
        """
        stream: _Stream[ChangeT, RecordT] = _Stream(criteria, token, self._heartbeat, resume)
        try:
            with self._feed.watcher() as watcher:
                now = await self._epochs.now()
                if resume is not None:
                    await self._check(resume, now)
                position = (resume or now).position
                if include_existing and resume is None:
                    async for record in self._existing(criteria):
                        self._feed.check(watcher)
                        yield Step("", existing=record)
                stream.begin(resume or now)
                yield stream.heartbeat()
                async for step in self._missed(watcher, position, stream):
                    yield step
                async for step in self._live(watcher, stream):
                    yield step
        except FellBehindError:
            raise WatcherTooSlowError(stream.latest_token) from None
        except FeedEndedError:
            raise WatchEndedError(stream.latest_token) from None

    async def _check(self, resume: ResumePoint, now: ResumePoint) -> None:
        """Raises ResumeTokenOfOtherDatabaseError, and ResumeTokenAheadError also when later changes have caught up."""
        if resume.epoch != now.epoch:
            raise ResumeTokenOfOtherDatabaseError
        if now.position.until.is_older_than(resume.position.until):
            raise ResumeTokenAheadError
        if resume.witness is not None:
            async with self._transactions.statement() as connection:
                if not await self._source.has_witness(connection, resume.witness):
                    raise ResumeTokenAheadError

    async def _existing(self, criteria: CriteriaT) -> AsyncIterator[RecordT]:
        # Read after the position from which the changes follow: a change in between is visible in the record and follows as a
        # change; one after which the record no longer matches follows as a change alone.
        after: Any = None
        while True:
            # Of one snapshot: what changes meanwhile does not move where the page ends.
            async with current_read_place(), self._reads.snapshot() as connection:
                page, after = await self._source.list_existing(connection, criteria, after=after, limit=_PAGE)
            for record in page:
                yield record
            if after is None:
                return

    async def _missed(
        self, watcher: Watcher, position: Position, stream: "_Stream[ChangeT, RecordT]"
    ) -> AsyncIterator[Step[ChangeT, RecordT]]:
        """Yield the changes between `position` and the place where the watcher joins the feed."""
        while True:
            # The rest of the batch that the position is in, then one batch up to the watermark of the feed.
            if position.between_batches:
                joined = await self._feed.join(watcher, position.since, self._heartbeat)
                if joined is None:
                    yield stream.heartbeat()
                    continue
                position = Position(position.since, joined, 0)
            while not position.between_batches:
                self._feed.check(watcher)
                async with self._readers, self._transactions.statement() as connection:
                    changes = await self._source.read_changes(connection, position, limit=_PAGE)
                for change in changes:
                    position = change.position
                    if step := stream.step(change):
                        yield step
                if len(changes) < _PAGE:
                    position = Position.at(position.until)
                    stream.reached(position)
            # Otherwise the feed has dropped changes during a long read: read again, from here.
            if self._feed.has_backlog_of(watcher):
                return

    async def _live(
        self, watcher: Watcher, stream: "_Stream[ChangeT, RecordT]"
    ) -> AsyncIterator[Step[ChangeT, RecordT]]:
        while True:
            change = await self._feed.take(watcher, stream.until_heartbeat)
            if change is None:
                if watermark := self._feed.watermark_reached_by(watcher):
                    stream.reached(Position.at(watermark))
                yield stream.heartbeat()
            elif step := stream.step(change):
                yield step


class _Stream(Generic[ChangeT, RecordT]):
    """The position of one stream, and when its next heartbeat is due."""

    def __init__(
        self, criteria: Criteria[ChangeT], token: MakeToken, heartbeat: timedelta, resume: ResumePoint | None
    ) -> None:
        self._criteria = criteria
        self._token = token
        self._heartbeat = heartbeat
        self._sent = time.monotonic()
        # None before the first position. Until the present one is known, that of the token that was given: it is the latest.
        self._point = resume

    @property
    def latest_token(self) -> str:
        """The token to resume from; empty before the first position."""
        return "" if self._point is None else self._token(self._point)

    @property
    def until_heartbeat(self) -> timedelta:
        """The time until the next heartbeat is due."""
        return max(self._heartbeat - timedelta(seconds=time.monotonic() - self._sent), timedelta(0))

    def begin(self, point: ResumePoint) -> None:
        """Set the first position of the stream."""
        self._point = point

    def reached(self, position: Position) -> None:
        """Set the position of the stream, after the changes that were stepped over."""
        if self._point is not None:
            self._point = replace(self._point, position=position)

    def step(self, change: ChangeT) -> Step[ChangeT, RecordT] | None:
        """Return the step for `change`: itself when it matches, else a heartbeat when one is due, else None."""
        if self._point is not None:
            self._point = replace(self._point, position=change.position, witness=change.witness)
        if self._criteria.matches(change):
            self._sent = time.monotonic()
            return Step(self.latest_token, change=change)
        return None if self.until_heartbeat else self.heartbeat()

    def heartbeat(self) -> Step[ChangeT, RecordT]:
        """Return a heartbeat, which carries the position of the stream."""
        self._sent = time.monotonic()
        return Step(self.latest_token)
