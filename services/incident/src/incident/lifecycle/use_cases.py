"""What the incident service does: one use case, one method, one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from incident.errors import (
    IncidentChangedError,
    IncidentIdTakenError,
    IncidentNotFoundError,
    RequestIdReusedError,
    TransitionNotAllowedError,
)
from incident.knowledge import repository as knowledge
from incident.lifecycle import listing, repository, timeline
from incident.model import (
    ALLOWED_FROM,
    Effect,
    EventType,
    Incident,
    IncidentFilter,
    NewIncident,
    Reopen,
    Resolution,
    ResolutionKey,
    Resolve,
    State,
    Transition,
    new_incident_id,
)
from servicekit.database.group_commit import GroupCommit
from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.process.failpoints import failpoint
from servicekit.rpc.paging import cut_page, text_bytes

_log = structlog.get_logger()

# Ids are tried wider and wider; after this many collisions in a row something else is wrong.
_CREATE_ATTEMPTS = 8
# Incidents resolved by one statement of a batch: large enough to share a commit, small enough to hold locks briefly.
_BATCH_CHUNK = 200


@dataclass(frozen=True, slots=True)
class IncidentPage:
    """A page of incidents; `next_position` is None on the last."""

    incidents: Sequence[Incident]
    next_position: tuple[datetime, str] | None


class IncidentUseCases:
    """The incident service's use cases over one database."""

    def __init__(
        self,
        transactions: Transactions,
        *,
        effects: Mapping[Effect, str | None],
        stuck_after: timedelta,
    ) -> None:
        """`effects` are queued by each resolution; one with a reason is left out, and that is why."""
        self._transactions = transactions
        self._effects = effects
        self._outbox = transactions.outbox
        self._wanted = [effect.topic for effect, skip_reason in effects.items() if skip_reason is None]
        self._stuck_after = stuck_after
        self._joined_resolve = GroupCommit(self._resolve_together)

    async def create(self, new: NewIncident, *, actor: str) -> tuple[Incident, bool]:
        """Open an incident, or find the one that this call already opened or that has the same fingerprint.

        Returns the incident and whether it was deduplicated by its fingerprint. Raises RequestIdReusedError and
        IncidentIdTakenError when the id was used with other content.
        """
        for attempt in range(_CREATE_ATTEMPTS):
            try:
                async with self._transactions.begin() as transaction:
                    found = await self._create(transaction, new, actor=actor, attempt=attempt)
            except repository.ConcurrentCreateError:
                # The other call's answer is committed now; the next round finds it.
                continue
            if found is not None:
                return found
        raise RuntimeError("no free incident id was found")

    async def _create(
        self, transaction: Transaction, new: NewIncident, *, actor: str, attempt: int
    ) -> tuple[Incident, bool] | None:
        connection = transaction.connection
        if new.request_id and (answered := await repository.get_create_request(connection, new.request_id)):
            repository.check_same_content(answered, new)
            incident = await repository.get(connection, answered.incident_id)
            return None if incident is None else (incident, answered.deduplicated)
        incident_id = new.incident_id or new_incident_id(attempt=attempt)
        incident = await repository.insert(connection, incident_id, new, actor=actor)
        deduplicated = False
        if incident is not None:
            await repository.insert_event(
                connection, incident, EventType.OPENED, actor=actor, summary=new.title
            )
            transaction.count("incidents_opened", incident.severity)
        elif new.incident_id and (content := await repository.get_content_hash(connection, new.incident_id)):
            if content != new.content_hash():
                raise IncidentIdTakenError(new.incident_id)
            incident = await repository.get(connection, new.incident_id)
        elif incident := await repository.count_occurrence(connection, new.fingerprint):
            deduplicated = True
            await repository.insert_event(
                connection, incident, EventType.DEDUPLICATED, actor=actor, summary=new.title
            )
        if incident is None:
            return None
        if new.request_id:
            await repository.insert_create_request(
                connection, new, incident_id=incident.incident_id, deduplicated=deduplicated
            )
        return incident, deduplicated

    async def get(self, incident_id: str) -> Incident:
        """Return an incident. Raises IncidentNotFoundError."""
        async with self._transactions.statement() as connection:
            incident = await repository.get(connection, incident_id)
        if incident is None:
            raise IncidentNotFoundError(incident_id)
        return incident

    async def list(
        self, narrow: IncidentFilter, *, after: tuple[datetime, str] | None, page_size: int
    ) -> IncidentPage:
        """Return the page of incidents behind `after` (None: the first)."""
        async with self._transactions.statement() as connection:
            found = await listing.list_incidents(
                connection, narrow, stuck_after=self._stuck_after, after=after, limit=page_size + 1
            )
        page, more = cut_page(
            found,
            page_size,
            lambda each: text_bytes(
                each.title, each.description, each.resolution_note, *each.labels, *each.labels.values()
            ),
        )
        return IncidentPage(page, listing.position(narrow, page[-1]) if more else None)

    async def start_investigation(self, incident_id: str, *, etag: str, actor: str) -> Incident:
        """Bring an OPEN incident to INVESTIGATING; one that is INVESTIGATING is returned as it is.

        Raises IncidentNotFoundError, TransitionNotAllowedError when it is RESOLVED, IncidentChangedError when `etag`
        is given and stale.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            incident = await repository.get_for_update(connection, incident_id)
            if incident is None:
                raise IncidentNotFoundError(incident_id)
            if incident.state is State.INVESTIGATING:
                return incident
            allowed = ALLOWED_FROM[Transition.START_INVESTIGATION]
            if incident.state not in allowed:
                raise TransitionNotAllowedError(incident_id, current=incident.state, allowed=allowed)
            if etag and etag != incident.etag:
                raise IncidentChangedError(incident_id)
            incident = await repository.start_investigation(connection, incident_id)
            await repository.insert_event(
                connection, incident, EventType.INVESTIGATION_STARTED, actor=actor, summary=""
            )
            return incident

    async def resolve(self, command: Resolve) -> Resolution:
        """Resolve an incident, together with whoever else is waiting to; one that is RESOLVED is returned as it is.

        Raises IncidentNotFoundError; IncidentChangedError when it is unresolved and `etag` is given and stale.
        """
        try:
            resolution = await self._joined_resolve(command)
        except IncidentNotFoundError as exc:
            _log_resolve(command, exc)
            raise
        _log_resolve(command, resolution)
        return resolution

    async def batch_resolve(
        self, commands: Sequence[Resolve | Exception]
    ) -> Sequence[Resolution | Exception]:
        """Resolve each of `commands` as `resolve` does; the result of each, in order.

        An error is the result of its own command alone; a command that is an error already keeps it.
        """
        valid = [command for command in commands if isinstance(command, Resolve)]
        outcomes: list[Resolution | Exception] = []
        for start in range(0, len(valid), _BATCH_CHUNK):
            chunk = valid[start : start + _BATCH_CHUNK]
            try:
                outcomes.extend(await self._resolve_together(chunk))
            except Exception as exc:
                # The chunks before are committed: their callers must learn it.
                outcomes.extend([exc] * len(chunk))
        for command, outcome in zip(valid, outcomes, strict=True):
            _log_resolve(command, outcome)
        resolved = iter(outcomes)
        return [next(resolved) if isinstance(command, Resolve) else command for command in commands]

    async def _resolve_together(self, commands: Sequence[Resolve]) -> Sequence[Resolution | Exception]:
        results: list[Resolution | Exception | None] = [None] * len(commands)
        # Of several commands for one incident the first goes first; the others see what became of it.
        waiting = list(range(len(commands)))
        previous: list[int] = []
        while waiting:
            turn: dict[str, int] = {}
            for index in waiting:
                turn.setdefault(commands[index].incident_id, index)
            first = list(turn.values())
            # Tried at once by this process when it has room; otherwise whoever has room claims them.
            lease = self._outbox.lease_for(dict.fromkeys(self._wanted, len(first)))
            failpoint("resolve_before_statement")
            async with self._transactions.statement() as connection:
                resolved = await repository.resolve(
                    connection,
                    [commands[index] for index in first],
                    self._effects,
                    lease=lease,
                )
            failpoint("resolve_after_commit")
            if resolved.jobs:
                self._outbox.dispatch(resolved.jobs)
            elif resolved.here:
                self._outbox.wake()
            for index in first:
                incident_id = commands[index].incident_id
                if incident_id in resolved.here:
                    results[index] = Resolution(resolved.here[incident_id], already_resolved=False)
                elif incident_id not in resolved.others:
                    results[index] = IncidentNotFoundError(incident_id)
                elif resolved.others[incident_id].state is State.RESOLVED:
                    results[index] = Resolution(resolved.others[incident_id], already_resolved=True)
                elif index in previous:
                    results[index] = IncidentChangedError(incident_id)
            # Unresolved, and not resolved here: changed while the statement waited for its lock, or a stale etag. A new
            # statement sees which: the second look decides.
            previous = [index for index in first if results[index] is None]
            waiting = [index for index in waiting if results[index] is None]
        return [result for result in results if result is not None]

    async def reopen(self, command: Reopen) -> Incident:
        """Bring a RESOLVED incident back to OPEN; a repeated request id is the incident as it is now.

        The next resolution has the next number, so its side effects run once more. Raises IncidentNotFoundError,
        TransitionNotAllowedError, FingerprintTakenError, IncidentChangedError, RequestIdReusedError.
        """
        async with self._transactions.begin() as transaction:
            connection = transaction.connection
            incident = await repository.get_for_update(connection, command.incident_id)
            if incident is None:
                raise IncidentNotFoundError(command.incident_id)
            event_id = command.event_id()
            if event_id and (event := await timeline.get_event(connection, event_id)):
                if (event.incident_id, event.summary) != (command.incident_id, command.reason):
                    raise RequestIdReusedError
                return incident
            allowed = ALLOWED_FROM[Transition.REOPEN]
            if incident.state not in allowed:
                raise TransitionNotAllowedError(command.incident_id, current=incident.state, allowed=allowed)
            if command.etag and command.etag != incident.etag:
                raise IncidentChangedError(command.incident_id)
            incident = await repository.reopen(connection, command.incident_id)
            await knowledge.unlearn(
                connection, ResolutionKey(command.incident_id, incident.resolution_number)
            )
            await repository.insert_event(
                connection,
                incident,
                EventType.REOPENED,
                actor=command.actor,
                summary=command.reason,
                event_id=event_id,
            )
            return incident


def _log_resolve(command: Resolve, outcome: Resolution | Exception) -> None:
    facts = {
        "incident_id": command.incident_id,
        "approval_id": command.approval_id,
        "actor": command.actor,
        "path": command.resolution_type.lower(),
    }
    if isinstance(outcome, IncidentNotFoundError):
        _log.warning("incident_not_found_for_resolve", **facts)
    elif isinstance(outcome, Resolution) and outcome.already_resolved:
        _log.info("incident_resolve_skipped_already_resolved", **facts)
