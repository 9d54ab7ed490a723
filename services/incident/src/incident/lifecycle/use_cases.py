"""The use cases on incidents and timelines: one use case, one method, one transaction. Resolve has its own file."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from incident.counters import INCIDENTS_OPENED
from incident.errors import (
    EventIdTakenError,
    EventTimeAheadError,
    IncidentChangedError,
    IncidentIdTakenError,
    IncidentNotFoundError,
    RequestIdReusedError,
    ResolutionsExhaustedError,
    TransitionNotAllowedError,
)
from incident.knowledge import repository as knowledge
from incident.lifecycle import create_requests, listing, lookup_repository, repository, timeline
from incident.lifecycle.create_requests import ConcurrentCreateError
from incident.lifecycle.model import (
    CreateResult,
    EventPage,
    IncidentFilter,
    IncidentPage,
    Lookup,
    LookupResult,
    NewEvent,
    NewIncident,
    ReopenCommand,
)
from incident.model import (
    ALLOWED_FROM,
    INCIDENT_ID_PREFIX,
    MAX_RESOLUTION_NUMBER,
    Event,
    EventType,
    Incident,
    ResolutionKey,
    State,
    Transition,
)
from servicekit.audit.model import Call
from servicekit.database.ids import new_id
from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.rpc.paging import read_page, text_bytes

# Ids are tried wider and wider; after this many collisions in a row something else is wrong.
_CREATE_ATTEMPTS = 8


class IncidentUseCases:
    """The use cases on incidents and their timelines over one database."""

    def __init__(self, transactions: Transactions, *, reads: Transactions, stuck_after: timedelta) -> None:
        """`reads` serves the lists."""
        self._transactions = transactions
        self._reads = reads
        self._stuck_after = stuck_after

    async def create(self, new: NewIncident, *, call: Call) -> CreateResult:
        """Open an incident, or deduplicate the report by its fingerprint. Idempotent by request id and by incident id.

        Raises RequestIdReusedError and IncidentIdTakenError when the id was used with other content.
        """
        for attempt in range(_CREATE_ATTEMPTS):
            try:
                async with self._transactions.begin() as transaction:
                    return await self._create(transaction, new, call=call, attempt=attempt)
            except ConcurrentCreateError:
                continue
        raise RuntimeError("no free incident id was found")

    async def _create(
        self, transaction: Transaction, new: NewIncident, *, call: Call, attempt: int
    ) -> CreateResult:
        connection, actor = transaction.connection, call.actor
        if answered := await create_requests.get(connection, new, actor=actor):
            if answered.content_hash != new.request_hash():
                raise RequestIdReusedError
            incident = await repository.get(connection, answered.incident_id)
            if incident is None:
                raise ConcurrentCreateError
            return CreateResult(incident, answered.deduplicated)
        result = await self._insert_or_deduplicate(transaction, new, call=call, attempt=attempt)
        await create_requests.insert(connection, new, result, actor=actor)
        return result

    async def _insert_or_deduplicate(
        self, transaction: Transaction, new: NewIncident, *, call: Call, attempt: int
    ) -> CreateResult:
        connection, actor = transaction.connection, call.actor
        incident_id = new.incident_id or new_id(INCIDENT_ID_PREFIX, attempt=attempt)
        # Says which of the caller's reports an occurrence is.
        attributes = {"request_id": new.request_id} if new.request_id else {}
        incident = await repository.insert(connection, incident_id, new, actor=actor)
        if incident is not None:
            await timeline.insert_event(
                connection,
                incident,
                EventType.OPENED,
                actor=actor,
                summary=new.title,
                attributes=attributes,
            )
            if not incident.is_canary:
                transaction.count(INCIDENTS_OPENED, incident.severity)
            transaction.record(call, incident.incident_id)
            return CreateResult(incident, deduplicated=False)
        if new.incident_id and (content := await repository.get_content_hash(connection, new.incident_id)):
            if content != new.content_hash():
                raise IncidentIdTakenError(new.incident_id)
            incident = await repository.get(connection, new.incident_id)
            if incident is None:
                raise ConcurrentCreateError
            return CreateResult(incident, deduplicated=False)
        incident = await repository.count_occurrence(connection, new.fingerprint)
        if incident is None:
            # The generated id is taken, or the incident with this fingerprint has just been resolved.
            raise ConcurrentCreateError
        await timeline.insert_event(
            connection,
            incident,
            EventType.DEDUPLICATED,
            actor=actor,
            summary=new.title,
            attributes=attributes,
        )
        transaction.record(call, incident.incident_id)
        return CreateResult(incident, deduplicated=True)

    async def get(self, incident_id: str) -> Incident:
        """Return an incident. Raises IncidentNotFoundError."""
        async with self._transactions.statement() as connection:
            incident = await repository.get(connection, incident_id)
        if incident is None:
            raise IncidentNotFoundError(incident_id)
        return incident

    async def list(
        self, criteria: IncidentFilter, *, after: tuple[datetime, str] | None, page_size: int
    ) -> IncidentPage:
        """Return the page of incidents after the position `after` (None: the first)."""
        # Of one snapshot: what changes meanwhile does not move where the page ends.
        async with self._reads.snapshot() as connection:
            page, next_position = await read_page(
                lambda behind, limit: listing.list_incidents(
                    connection, criteria, stuck_after=self._stuck_after, after=behind, limit=limit
                ),
                examined_to=lambda behind: listing.examined_to(
                    connection, criteria, stuck_after=self._stuck_after, after=behind
                ),
                after=after,
                position=lambda each: listing.position(criteria, each),
                page_size=page_size,
                size=lambda each: text_bytes(
                    each.title, each.description, each.resolution_note, *each.labels, *each.labels.values()
                ),
            )
        return IncidentPage(page, next_position)

    async def look_up(self, items: Sequence[Lookup]) -> Sequence[LookupResult]:
        """Return of each item whether its incident exists, and whether that resolve would resolve it; in order."""
        async with self._transactions.statement() as connection:
            return await lookup_repository.look_up(connection, items)

    async def start_investigation(self, incident_id: str, *, etag: str, call: Call) -> Incident:
        """Bring an OPEN incident to INVESTIGATING. Idempotent: one that is INVESTIGATING is returned as it is.

        Raises IncidentNotFoundError, TransitionNotAllowedError when it is RESOLVED, IncidentChangedError when `etag`
        is given and stale.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            incident = await _lock(transaction, incident_id)
            if incident.state is State.INVESTIGATING:
                return incident
            allowed = ALLOWED_FROM[Transition.START_INVESTIGATION]
            if incident.state not in allowed:
                raise TransitionNotAllowedError(incident_id, current=incident.state, allowed=allowed)
            if etag and not incident.has_etag(etag):
                raise IncidentChangedError(incident_id)
            incident = await repository.start_investigation(connection, incident_id)
            await timeline.insert_event(
                connection, incident, EventType.INVESTIGATION_STARTED, actor=call.actor, summary=""
            )
            transaction.record(call, incident_id)
            return incident

    async def reopen(self, command: ReopenCommand, *, call: Call) -> Incident:
        """Bring a RESOLVED incident back to OPEN. Idempotent by request id: a retry gets the incident as it is now.

        The next resolution has the next number, so its side effects run once more. Raises IncidentNotFoundError,
        TransitionNotAllowedError, FingerprintTakenError, IncidentChangedError, RequestIdReusedError,
        ResolutionsExhaustedError.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            incident = await _lock(transaction, command.incident_id)
            event_id = command.event_id()
            if event_id and (event := await timeline.get_event(connection, event_id)):
                if (event.incident_id, event.summary) != (command.incident_id, command.reason):
                    raise RequestIdReusedError
                return incident
            allowed = ALLOWED_FROM[Transition.REOPEN]
            if incident.state not in allowed:
                raise TransitionNotAllowedError(command.incident_id, current=incident.state, allowed=allowed)
            if command.etag and not incident.has_etag(command.etag):
                raise IncidentChangedError(command.incident_id)
            if incident.resolution_number >= MAX_RESOLUTION_NUMBER:
                raise ResolutionsExhaustedError(command.incident_id)
            incident = await repository.reopen(connection, command.incident_id)
            await knowledge.unlearn(
                connection, ResolutionKey(command.incident_id, incident.resolution_number)
            )
            await timeline.insert_event(
                connection,
                incident,
                EventType.REOPENED,
                actor=command.actor,
                summary=command.reason,
                event_id=event_id,
            )
            transaction.record(call, command.incident_id)
            return incident

    async def list_events(
        self, incident_id: str, *, types: Sequence[EventType], after: int | None, page_size: int
    ) -> EventPage:
        """Return the page of an incident's events after the sequence number `after` (None: the first).

        Raises IncidentNotFoundError.
        """
        # Of one snapshot: what changes meanwhile does not move where the page ends.
        async with self._reads.snapshot() as connection:
            page, next_position = await read_page(
                lambda behind, limit: timeline.list_events(
                    connection, incident_id, types=types, after=behind, limit=limit
                ),
                examined_to=lambda behind: timeline.examined_to(
                    connection, incident_id, types=types, after=behind
                ),
                after=after,
                position=lambda each: each.sequence,
                page_size=page_size,
                size=lambda each: text_bytes(each.summary, *each.attributes, *each.attributes.values()),
            )
            if not page and await repository.get(connection, incident_id) is None:
                raise IncidentNotFoundError(incident_id)
        return EventPage(page, next_position)

    async def add_event(self, new: NewEvent, *, call: Call) -> Event:
        """Append an event. Idempotent by event id: the same one again is the stored event.

        Raises IncidentNotFoundError; EventIdTakenError when the id was used with other content; EventTimeAheadError.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            # Under the incident's lock, so that its timeline's order is the order of commits.
            incident = await _lock(transaction, new.incident_id)
            event = await timeline.add_event(connection, incident, new)
            if event is None:
                event = await timeline.get_event(connection, new.event_id)
                if event is None and await timeline.is_ahead(connection, new):
                    raise EventTimeAheadError
                if event is None or not new.is_same_as(event):
                    raise EventIdTakenError
            else:
                transaction.record(call, new.incident_id, event.event_id)
            return event


async def _lock(transaction: Transaction, incident_id: str) -> Incident:
    incident = await repository.get_for_update(transaction.connection, incident_id)
    if incident is None:
        raise IncidentNotFoundError(incident_id)
    return incident
