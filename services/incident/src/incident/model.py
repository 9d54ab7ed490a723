"""Incidents, their timelines and the state machine. Knows no database and no wire."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class State(StrEnum):
    """An incident's state."""

    OPEN = "OPEN"
    INVESTIGATING = "INVESTIGATING"
    RESOLVED = "RESOLVED"


class Transition(StrEnum):
    """A change of an incident's state."""

    START_INVESTIGATION = "START_INVESTIGATION"
    RESOLVE = "RESOLVE"
    REOPEN = "REOPEN"


# The whole state machine: from which states a transition may start. Every statement that changes a state takes its
# guard from here.
ALLOWED_FROM: Mapping[Transition, tuple[State, ...]] = {
    Transition.START_INVESTIGATION: (State.OPEN,),
    Transition.RESOLVE: (State.OPEN, State.INVESTIGATING),
    Transition.REOPEN: (State.RESOLVED,),
}


class Severity(StrEnum):
    """The severity of an incident, P1 to P5."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"
    INFO = "INFO"


class ResolutionType(StrEnum):
    """How an incident was resolved."""

    NO_ACTION = "NO_ACTION"
    AUTO_REPAIRED = "AUTO_REPAIRED"
    HUMAN = "HUMAN"
    DUPLICATE = "DUPLICATE"
    FALSE_POSITIVE = "FALSE_POSITIVE"
    EXPIRED_ALERT = "EXPIRED_ALERT"


class EventType(StrEnum):
    """The type of a timeline entry."""

    OPENED = "OPENED"
    DEDUPLICATED = "DEDUPLICATED"
    INVESTIGATION_STARTED = "INVESTIGATION_STARTED"
    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    EXECUTED = "EXECUTED"
    EXECUTION_FAILED = "EXECUTION_FAILED"
    RESOLVED = "RESOLVED"
    REOPENED = "REOPENED"
    EFFECT_DONE = "EFFECT_DONE"
    EFFECT_PARKED = "EFFECT_PARKED"
    EFFECT_SKIPPED = "EFFECT_SKIPPED"
    NOTE = "NOTE"
    RECOVERED = "RECOVERED"
    NOT_RECOVERED = "NOT_RECOVERED"
    EXECUTION_STARTED = "EXECUTION_STARTED"


# As in INC-20260507-99ADF2.
INCIDENT_ID_PREFIX = "INC"
# Events that count as progress of an unresolved incident: it is not stuck.
PROGRESS_EVENTS = (EventType.PROPOSED, EventType.APPROVED, EventType.EXECUTION_STARTED, EventType.EXECUTED)
# The name under which this service acts.
OWN_ACTOR = "service:incident"
# Event ids with this prefix are reserved: a caller's event with the id of a RESOLVED event would block the resolution.
OWN_EVENT_PREFIX = "service:incident/"


class Effect(StrEnum):
    """A side effect of a RESOLVED transition."""

    POSTMORTEM = "POSTMORTEM"
    DISPOSITION = "DISPOSITION"
    KNOWLEDGE = "KNOWLEDGE"
    NOTIFICATION = "NOTIFICATION"
    WEBHOOK = "WEBHOOK"

    @property
    def topic(self) -> str:
        """The outbox topic of this effect's jobs."""
        return f"effect.{self.value.lower()}"

    def delivery_id(self, key: "ResolutionKey") -> str:
        """The idempotency key of this effect of one RESOLVED transition, the same for every attempt."""
        return f"{key.incident_id}/{self.value.lower()}/{key.resolution_number}"


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as stored. Times are UTC; `version` grows with every change."""

    incident_id: str
    title: str
    description: str
    severity: Severity
    state: State
    fingerprint: str
    labels: Mapping[str, str]
    source: str
    occurrence_count: int
    last_seen_time: datetime
    create_time: datetime
    update_time: datetime
    investigate_time: datetime | None
    resolve_time: datetime | None
    last_progress_time: datetime
    resolution_type: ResolutionType | None
    resolution_note: str
    resolved_by: str
    resolution_number: int
    opened_by: str
    version: int

    @property
    def etag(self) -> str:
        """The token of a conditional write: an incident that has changed since has another.

        With the time of its version: an incident whose database was set back to a backup may come to the same version again.
        """
        return f"{self.version}-{(self.update_time - _EPOCH) // _MICROSECOND:x}"

    def has_etag(self, etag: str) -> bool:
        """Tell whether an etag is of this state; earlier versions of the service issued the number of the version alone."""
        return etag in (self.etag, str(self.version))

    @property
    def is_canary(self) -> bool:
        """Tell whether it was opened by a check of the deployment.

        Never with a fingerprint: reports of something real would be deduplicated into it, and lost.
        """
        return is_canary(self.labels, self.fingerprint)

    @property
    def opening(self) -> int:
        """The number of the current opening: each one but the current has ended with a resolution."""
        return opening_of(self.resolution_number, self.state)


# Makes an incident a canary: it is in no counter, has no side effect but its postmortem, and can be removed.
CANARY_LABEL = "flywheel-canary"


def is_canary(labels: Mapping[str, str], fingerprint: str) -> bool:
    """Tell whether an incident with these labels and this fingerprint is a canary."""
    return labels.get(CANARY_LABEL) == "true" and not fingerprint


# The number of an opening must be an int32 still, on the wire and in the database, when the last resolution was reopened.
# So that is never done: an incident with this number is not reopened any more.
MAX_RESOLUTION_NUMBER = 2**31 - 2


def opening_of(resolution_number: int, state: State) -> int:
    """Return the number of an incident's current, or last, opening."""
    return min(resolution_number, MAX_RESOLUTION_NUMBER) + (state is not State.RESOLVED)


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of an incident's timeline.

    `event_time` is when it happened, and the order for readers; `sequence` is when it was written, and the order for paging.
    """

    event_id: str
    incident_id: str
    type: EventType
    actor: str
    event_time: datetime
    summary: str
    attributes: Mapping[str, str]
    resolution_number: int
    sequence: int


# Entries of the same time follow the order in which their types are defined: that of an incident's life.
_RANKS = {event_type: rank for rank, event_type in enumerate(EventType)}


def in_order_of_time(events: Iterable[Event], *, end: datetime) -> Sequence[Event]:
    """Return the events of a timeline that was closed at `end` in the order in which they happened.

    One that was written before `end` did not happen after it, even if the clock of its writer is ahead.
    """
    return sorted(events, key=lambda event: (min(event.event_time, end), _RANKS[event.type], event.sequence))


@dataclass(frozen=True, slots=True)
class ResolutionKey:
    """One RESOLVED transition."""

    incident_id: str
    resolution_number: int
