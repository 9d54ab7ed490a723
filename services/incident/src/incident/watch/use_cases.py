"""Watch: existing incidents, missed changes and live changes, one stream without a gap."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from incident.lifecycle import listing, repository
from incident.lifecycle.model import IncidentFilter, Order
from incident.model import Incident
from incident.watch.errors import (
    FeedEndedError,
    FellBehindError,
    ResumeTokenAheadError,
    WatchEndedError,
    WatcherTooSlowError,
)
from incident.watch.feed import Feed, Watcher
from incident.watch.model import Change, MakeToken, Position, Snapshot, Step, WatchFilter
from incident.watch.repository import current_snapshot, read_changes
from servicekit.outbox.transaction import Transactions

# The contract promises 30 s.
HEARTBEAT = timedelta(seconds=20)
# What a stream that does not move holds in memory, and what is read at a time.
_PAGE = 100
# So many streams read what they missed at the same time: a crowd that comes back leaves connections for other calls.
_READERS = 2


class WatchUseCase:
    """Streams changes: those missed are read from the database at the watcher's pace, new ones come from the feed.

    Changes of incidents that retention has removed meanwhile are left out, and so are the incidents.
    """

    def __init__(self, transactions: Transactions, feed: Feed, *, heartbeat: timedelta = HEARTBEAT) -> None:
        """Send a heartbeat when nothing else was sent for `heartbeat`."""
        self._transactions = transactions
        self._readers = asyncio.Semaphore(_READERS)
        self._feed = feed
        self._heartbeat = heartbeat

    async def watch(
        self, narrow: WatchFilter, *, resume: Position | None, include_existing: bool, token: MakeToken
    ) -> AsyncIterator[Step]:
        """Yield the changes after `resume` (None: from now on, after the existing incidents if wanted) that pass.

        The first step of all, or the first after the existing incidents, is a heartbeat: its token can be gone on from.

        Raises TooManyWatchersError, ResumeTokenAheadError; WatcherTooSlowError and WatchEndedError with the latest token.
        """
        stream = _Stream(narrow, token, self._heartbeat, resume)
        try:
            with self._feed.watcher() as watcher:
                now = await self._now()
                if resume is not None and now.is_older_than(resume.until):
                    raise ResumeTokenAheadError
                position = resume or Position.at(now)
                if include_existing and resume is None:
                    async for incident in self._existing(narrow):
                        self._feed.check(watcher)
                        yield Step("", existing=incident)
                stream.reached(position)
                yield stream.heartbeat()
                async for step in self._missed(watcher, position, stream):
                    yield step
                async for step in self._live(watcher, stream):
                    yield step
        except FellBehindError:
            raise WatcherTooSlowError(stream.latest_token) from None
        except FeedEndedError:
            raise WatchEndedError(stream.latest_token) from None

    async def _now(self) -> Snapshot:
        async with self._transactions.statement() as connection:
            return await current_snapshot(connection)

    async def _existing(self, narrow: WatchFilter) -> AsyncIterator[Incident]:
        # Newer than the position that the stream goes on from: a change in between is seen in the incident and again as
        # a change, and one that takes an incident out of the filter is seen as a change alone.
        if narrow.incident_id:
            async with self._transactions.statement() as connection:
                incident = await repository.get(connection, narrow.incident_id)
            if incident is not None and narrow.lets_incident_pass(incident):
                yield incident
            return
        wanted = IncidentFilter(
            states=narrow.states,
            severities=narrow.severities,
            fingerprint=narrow.fingerprint,
            labels=narrow.labels,
            order=Order.CREATE_TIME_ASC,
        )
        after: tuple[datetime, str] | None = None
        while True:
            async with self._readers, self._transactions.statement() as connection:
                page = await listing.list_incidents(
                    connection, wanted, stuck_after=timedelta(0), after=after, limit=_PAGE
                )
            for incident in page:
                yield incident
            if len(page) < _PAGE:
                return
            after = listing.position(wanted, page[-1])

    async def _missed(self, watcher: Watcher, position: Position, stream: "_Stream") -> AsyncIterator[Step]:
        """Yield what was committed between `position` and the place where the watcher joins the feed."""
        while True:
            # The rest of the batch that the position is in, then all from there to where the feed is.
            if position.between_batches:
                joined = await self._feed.join(watcher, position.since, self._heartbeat)
                if joined is None:
                    yield stream.heartbeat()
                    continue
                position = Position(position.since, joined, 0)
            while not position.between_batches:
                self._feed.check(watcher)
                async with self._readers, self._transactions.statement() as connection:
                    changes = await read_changes(connection, position, limit=_PAGE)
                for change in changes:
                    position = change.position
                    if step := stream.step(change):
                        yield step
                if len(changes) < _PAGE:
                    position = Position.at(position.until)
                    stream.reached(position)
            # Reading took so long that the feed has let go of what came meanwhile: once more, from there.
            if self._feed.has_kept(watcher):
                return

    async def _live(self, watcher: Watcher, stream: "_Stream") -> AsyncIterator[Step]:
        while True:
            change = await self._feed.take(watcher, stream.until_heartbeat)
            if change is None:
                if seen := self._feed.seen_by(watcher):
                    stream.reached(Position.at(seen))
                yield stream.heartbeat()
            elif step := stream.step(change):
                yield step


class _Stream:
    """How far one stream is, and when it has to say that it is there."""

    def __init__(
        self, narrow: WatchFilter, token: MakeToken, heartbeat: timedelta, position: Position | None
    ) -> None:
        self._narrow = narrow
        self._token = token
        self._heartbeat = heartbeat
        self._sent = time.monotonic()
        self._position = position

    @property
    def latest_token(self) -> str:
        """The token to go on with; empty before there was one."""
        return "" if self._position is None else self._token(self._position)

    @property
    def until_heartbeat(self) -> timedelta:
        """How long the stream may stay quiet."""
        return max(self._heartbeat - timedelta(seconds=time.monotonic() - self._sent), timedelta(0))

    def reached(self, position: Position) -> None:
        """Remember where the stream is."""
        self._position = position

    def step(self, change: Change) -> Step | None:
        """Return what is sent when the stream has come to `change`: nothing mostly, when the filter is narrow."""
        self._position = change.position
        if self._narrow.lets_change_pass(change):
            self._sent = time.monotonic()
            return Step(self.latest_token, change=change)
        return None if self.until_heartbeat else self.heartbeat()

    def heartbeat(self) -> Step:
        """Return a step that says where the stream is."""
        self._sent = time.monotonic()
        return Step(self.latest_token)
