"""Incidents and the rules they follow. Knows no database and no wire."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum


class State(StrEnum):
    """Where an incident is on its way."""

    OPEN = "OPEN"
    INVESTIGATING = "INVESTIGATING"
    RESOLVED = "RESOLVED"


class Transition(StrEnum):
    """What changes an incident's state."""

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
    """How bad an incident is, P1 to P5."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"
    INFO = "INFO"


class ResolutionType(StrEnum):
    """How an incident came to be resolved."""

    NO_ACTION = "NO_ACTION"
    AUTO_REPAIRED = "AUTO_REPAIRED"
    HUMAN = "HUMAN"
    DUPLICATE = "DUPLICATE"
    FALSE_POSITIVE = "FALSE_POSITIVE"
    EXPIRED_ALERT = "EXPIRED_ALERT"


class EventType(StrEnum):
    """What an entry of a timeline says happened."""

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


# What somebody other than this service may write on a timeline.
ADDABLE_EVENTS = (
    EventType.PROPOSED,
    EventType.APPROVED,
    EventType.REJECTED,
    EventType.EXPIRED,
    EventType.CANCELLED,
    EventType.EXECUTED,
    EventType.EXECUTION_FAILED,
    EventType.NOTE,
)
# What brings an unresolved incident forward, so that it is not stuck.
PROGRESS_EVENTS = (EventType.PROPOSED, EventType.APPROVED, EventType.EXECUTED)
# The ids of events that this service writes itself. Nobody else may use them: an id of its own that somebody took
# would keep an incident from being resolved.
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
        """What names this effect of one RESOLVED transition, the same for every try."""
        return f"{key.incident_id}/{self.value.lower()}/{key.resolution_number}"


class Order(StrEnum):
    """The order of a list of incidents; equal times are ordered by incident id."""

    CREATE_TIME_DESC = "CREATE_TIME_DESC"
    CREATE_TIME_ASC = "CREATE_TIME_ASC"
    UPDATE_TIME_DESC = "UPDATE_TIME_DESC"
    LAST_PROGRESS_TIME_ASC = "LAST_PROGRESS_TIME_ASC"


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
        """What a caller sends back to act only on what it has read."""
        return str(self.version)


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of an incident's timeline."""

    event_id: str
    incident_id: str
    type: EventType
    actor: str
    event_time: datetime
    summary: str
    attributes: Mapping[str, str]
    resolution_number: int
    sequence: int


@dataclass(frozen=True, slots=True)
class NewIncident:
    """What a caller says when it opens an incident."""

    title: str
    severity: Severity
    description: str = ""
    fingerprint: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    incident_id: str = ""
    request_id: str = ""

    def request_hash(self) -> str:
        """A digest of the content and the id asked for: equal for a retry with the same request id."""
        return hashlib.sha256(f"{self.content_hash()}\n{self.incident_id}".encode()).hexdigest()

    def content_hash(self) -> str:
        """A digest of the content, without the ids: equal for a retry with the same incident id."""
        content = [
            self.title,
            self.severity,
            self.description,
            self.fingerprint,
            sorted(self.labels.items()),
            self.source,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An entry that a caller adds to a timeline; without an `event_time` it happened now."""

    event_id: str
    incident_id: str
    type: EventType
    actor: str
    event_time: datetime | None
    summary: str
    attributes: Mapping[str, str]

    def is_same_as(self, stored: Event) -> bool:
        """Tell whether `stored` is what an earlier call with this content left."""
        return (
            stored.incident_id == self.incident_id
            and stored.type is self.type
            and stored.actor == self.actor
            and stored.summary == self.summary
            and dict(stored.attributes) == dict(self.attributes)
            and self.event_time in (None, stored.event_time)
        )


@dataclass(frozen=True, slots=True)
class Reopen:
    """A wish to reopen a resolved incident; with an `etag` only as it was read."""

    incident_id: str
    reason: str
    actor: str
    etag: str = ""
    request_id: str = ""

    def event_id(self) -> str | None:
        """The id of the REOPENED event that remembers the request, None for a call without a request id."""
        if not self.request_id:
            return None
        return f"{OWN_EVENT_PREFIX}reopened/{hashlib.sha256(self.request_id.encode()).hexdigest()}"


class SideEffectState(StrEnum):
    """How far a side effect is."""

    PENDING = "PENDING"
    DONE = "DONE"
    PARKED = "PARKED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True)
class SideEffect:
    """One consequence of one RESOLVED transition. `sequence` grows with the time it was queued."""

    incident_id: str
    effect: Effect
    resolution_number: int
    state: SideEffectState
    attempts: int
    last_error: str
    create_time: datetime
    next_attempt_time: datetime
    done_time: datetime | None
    sequence: int

    @property
    def delivery_id(self) -> str:
        """The same for every try of this effect."""
        return self.effect.delivery_id(ResolutionKey(self.incident_id, self.resolution_number))


@dataclass(frozen=True, slots=True)
class Postmortem:
    """What was written down about one RESOLVED transition."""

    incident_id: str
    resolution_number: int
    resolution_type: ResolutionType
    markdown: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class ResolutionKey:
    """One RESOLVED transition."""

    incident_id: str
    resolution_number: int


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one RESOLVED transition teaches; `held` is False when the incident has been reopened since."""

    incident_id: str
    resolution_number: int
    symptom_key: str
    symptoms: str
    resolution: str
    resolution_type: ResolutionType
    action: str
    held: bool
    seconds: float

    @property
    def knowledge_id(self) -> str:
        """The entry that this adds to: one for each symptom and what resolved it."""
        key = f"{self.symptom_key}\n{self.resolution_type}\n{self.action}"
        return hashlib.sha256(key.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class KnowledgeEntry:
    """What is known of one kind of problem: its symptoms, what resolved it, how often that held, how long it took."""

    knowledge_id: str
    incident_id: str
    symptoms: str
    resolution: str
    resolution_type: ResolutionType
    action: str
    use_count: int
    success_count: int
    create_time: datetime
    update_time: datetime
    mean_resolution_time: timedelta


@dataclass(frozen=True, slots=True)
class KnowledgeMatch:
    """An entry and how well it matches: greater is better, within one answer."""

    entry: KnowledgeEntry
    rank: float


@dataclass(frozen=True, slots=True)
class Resolve:
    """A wish to resolve an incident; with an `etag` only as it was read."""

    incident_id: str
    resolution_type: ResolutionType
    note: str
    actor: str
    etag: str = ""
    # The approval whose execution resolved it, and the action that was executed; empty for everybody else.
    approval_id: str = ""
    action: str = ""

    def attributes(self) -> Mapping[str, str]:
        """What the RESOLVED event says besides the note."""
        attributes = {"resolution_type": self.resolution_type.value}
        if self.approval_id:
            attributes["approval_id"] = self.approval_id
        if self.action:
            attributes["action"] = self.action
        return attributes


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of a Resolve: the incident, and whether it was RESOLVED before."""

    incident: Incident
    already_resolved: bool


@dataclass(frozen=True, slots=True)
class IncidentFilter:
    """What a list of incidents is narrowed to; what is empty or None does not narrow."""

    states: tuple[State, ...] = ()
    severities: tuple[Severity, ...] = ()
    fingerprint: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    create_time_start: datetime | None = None
    create_time_end: datetime | None = None
    resolve_time_start: datetime | None = None
    resolve_time_end: datetime | None = None
    stuck: bool = False
    order: Order = Order.CREATE_TIME_DESC


# Digits of an id: six are what operators know; a collision widens.
_FEWEST_DIGITS = 6
_MOST_DIGITS = 12


def new_incident_id(*, attempt: int, now: datetime | None = None) -> str:
    """Return a random id such as INC-20260507-99ADF2, two digits wider with each `attempt` (from 0), up to twelve."""
    digits = min(_FEWEST_DIGITS + 2 * attempt, _MOST_DIGITS)
    day = (now or datetime.now(UTC)).strftime("%Y%m%d")
    return f"INC-{day}-{secrets.token_hex(digits // 2).upper()}"
