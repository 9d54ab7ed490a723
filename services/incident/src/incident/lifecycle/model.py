"""Commands, results and filters of the lifecycle use cases. Knows no database and no wire."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from incident.model import OWN_EVENT_PREFIX, Event, EventType, Incident, ResolutionType, Severity, State


@dataclass(frozen=True, slots=True)
class NewIncident:
    """The command to open an incident. An empty `incident_id` lets the service choose one."""

    title: str
    severity: Severity
    description: str = ""
    fingerprint: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    incident_id: str = ""
    request_id: str = ""

    def request_hash(self) -> str:
        """A digest of the content and the requested id: equal for a retry with the same request id."""
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
class CreateResult:
    """The incident, and whether an unresolved one with the same fingerprint took the report."""

    incident: Incident
    deduplicated: bool


@dataclass(frozen=True, slots=True)
class NewEvent:
    """The command to append a timeline entry; without an `event_time` it happened now.

    `is_of_service`: its id is one that only a service of the loop may use. Such an entry is kept even if the service's clock
    is far ahead: a wrong clock must not cost the entry.
    """

    event_id: str
    incident_id: str
    type: EventType
    actor: str
    event_time: datetime | None
    summary: str
    attributes: Mapping[str, str]
    is_of_service: bool = False

    def is_same_as(self, stored: Event) -> bool:
        """Return whether `stored` was written by a call with this content."""
        return (
            stored.incident_id == self.incident_id
            and stored.type is self.type
            # A name of an earlier version may have capitals.
            and stored.actor.lower() == self.actor.lower()
            and stored.summary == self.summary
            and dict(stored.attributes) == dict(self.attributes)
            and self.event_time in (None, stored.event_time)
        )


@dataclass(frozen=True, slots=True)
class EventPage:
    """A page of a timeline; `next_position` is the sequence number that the next page follows, None on the last."""

    events: Sequence[Event]
    next_position: int | None


@dataclass(frozen=True, slots=True)
class ReopenCommand:
    """The command to reopen a RESOLVED incident; an `etag` makes it conditional."""

    incident_id: str
    reason: str
    actor: str
    etag: str = ""
    request_id: str = ""

    def event_id(self) -> str | None:
        """The id of the REOPENED event that makes the request of its actor idempotent; None without a request id."""
        if not self.request_id:
            return None
        request = f"{self.actor}\n{self.request_id}"
        return f"{OWN_EVENT_PREFIX}reopened/{hashlib.sha256(request.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class ResolveCommand:
    """The command to resolve an incident; an `etag` makes it conditional."""

    incident_id: str
    resolution_type: ResolutionType
    note: str
    actor: str
    etag: str = ""
    # The approval whose execution resolved it, and the executed action; empty for every other caller.
    approval_id: str = ""
    action: str = ""
    # The opening that it is for; 0 is the current one.
    opening: int = 0
    # When the action was executed.
    execute_time: datetime | None = None
    # What the timeline has to show of the approval before the resolution.
    approval_events: Sequence[NewEvent] = ()

    def attributes(self) -> Mapping[str, str]:
        """The attributes of the RESOLVED event."""
        attributes = {"resolution_type": self.resolution_type.value}
        if self.approval_id:
            attributes["approval_id"] = self.approval_id
        if self.action:
            attributes["action"] = self.action
        return attributes


@dataclass(frozen=True, slots=True)
class RemovedIncident:
    """What is remembered of an incident that was RESOLVED and that retention has removed."""

    incident_id: str
    resolution_number: int


@dataclass(frozen=True, slots=True)
class ResolveResult:
    """The incident, and whether it was RESOLVED before the command, or the command's opening is over."""

    incident: Incident | RemovedIncident
    already_resolved: bool


@dataclass(frozen=True, slots=True)
class Lookup:
    """The question whether an incident exists, and whether a resolve with these fields would resolve it."""

    incident_id: str
    approval_id: str
    opening: int
    execute_time: datetime | None


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What is known of an incident: its state (None: unknown id) and opening, and whether that resolve would resolve it."""

    incident_id: str
    state: State | None
    opening: int
    is_removed: bool
    is_resolvable: bool


# The outcome of one command of a batch: its result, or the error that is its own.
ResolveOutcome: TypeAlias = ResolveResult | Exception


class Order(StrEnum):
    """The order of a list of incidents; equal times are ordered by incident id."""

    CREATE_TIME_DESC = "CREATE_TIME_DESC"
    CREATE_TIME_ASC = "CREATE_TIME_ASC"
    UPDATE_TIME_DESC = "UPDATE_TIME_DESC"
    LAST_PROGRESS_TIME_ASC = "LAST_PROGRESS_TIME_ASC"


@dataclass(frozen=True, slots=True)
class IncidentFilter:
    """The criteria and the order of a list of incidents; an empty field or None is no criterion."""

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


@dataclass(frozen=True, slots=True)
class IncidentPage:
    """A page of incidents; `next_position` is None on the last."""

    incidents: Sequence[Incident]
    next_position: tuple[datetime, str] | None
