"""What is delivered to the incident service, how far each delivery is, and what that service knows."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol, TypeAlias

from approval.model import Severity, State


class ResolutionType(StrEnum):
    """How an execution resolved its incident."""

    NO_ACTION = "NO_ACTION"
    AUTO_REPAIRED = "AUTO_REPAIRED"


class TimelineEvent(StrEnum):
    """What of an approval is recorded on its incident's timeline."""

    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    EXECUTION_STARTED = "EXECUTION_STARTED"
    EXECUTED = "EXECUTED"
    EXECUTION_FAILED = "EXECUTION_FAILED"
    RECOVERED = "RECOVERED"
    NOT_RECOVERED = "NOT_RECOVERED"


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """An event for an incident's timeline; `event_id` makes writing it idempotent.

    `event_time` is when it happened, however late it is delivered; None: not known.
    """

    event_id: str
    incident_id: str
    event: TimelineEvent
    event_time: datetime | None
    summary: str
    attributes: Mapping[str, str]

    def digest(self) -> str:
        """Return a digest of the content, the same whenever it is made of the same content."""
        event_time = None if self.event_time is None else self.event_time.astimezone(UTC).isoformat()
        content = [self.incident_id, self.event, event_time, self.summary, sorted(self.attributes.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ResolveIntent:
    """The intent to resolve the incident of an executed approval, for the opening that it was proposed for."""

    approval_id: str
    incident_id: str
    resolution_type: ResolutionType
    action: str
    # 0 when it is not known: then the time of the execution decides.
    opening: int
    execute_time: datetime | None
    # The proposal, the approval, the execution and the recovery: the resolve brings them, as they may be delivered after it.
    entries: Sequence[TimelineEntry] = ()


class DeliveryState(StrEnum):
    """The state of a delivery. PARKED: dead-lettered, it waits for an operator; DISMISSED: an operator gave it up."""

    PENDING = "PENDING"
    DONE = "DONE"
    PARKED = "PARKED"
    DISMISSED = "DISMISSED"


class DeliveryTopic(StrEnum):
    """What is delivered; OTHER is a job of another version of the service."""

    RESOLVE = "RESOLVE"
    TIMELINE = "TIMELINE"
    EXECUTION = "EXECUTION"
    NOTIFICATION = "NOTIFICATION"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class DeliveryDismissal:
    """That an operator gave a delivery up: who, why and when."""

    actor: str
    reason: str
    dismiss_time: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """A job of this service as an operator sees it."""

    delivery_id: int
    topic: DeliveryTopic
    idempotency_key: str
    approval_id: str
    # Empty for an execution.
    incident_id: str
    state: DeliveryState
    attempts: int
    last_error: str
    create_time: datetime
    next_attempt_time: datetime
    done_time: datetime | None
    requeued_by: str
    dismissal: DeliveryDismissal | None


class IncidentCheck(StrEnum):
    """What a look-up of an incident found."""

    UNRESOLVED = "UNRESOLVED"
    RESOLVED = "RESOLVED"
    UNKNOWN = "UNKNOWN"
    UNREACHABLE = "UNREACHABLE"


@dataclass(frozen=True, slots=True)
class FoundIncident:
    """An incident as the incident service knows it; `severity` is None and `opening` 0 when that is not known."""

    check: IncidentCheck
    severity: Severity | None = None
    opening: int = 0
    # What identifies its alert.
    fingerprint: str = ""
    source: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    # How often it was reported.
    reports: int = 0
    # Opened by a check of the deployment.
    is_canary: bool = False


# A time of update and an approval id, after which a batch of approvals begins.
Position: TypeAlias = tuple[datetime, str]

# The approvals that are compared with the incident service: those of the others change nothing any more.
COMPARED_STATES = (State.PENDING, State.APPROVED, State.EXECUTING, State.INDETERMINATE, State.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class ComparedApproval:
    """An approval as it is compared with what the incident service has of its incident."""

    approval_id: str
    incident_id: str
    opening: int
    execute_time: datetime | None
    # Whether its resolve was delivered and acknowledged.
    is_acknowledged: bool
    # Whether its incident was unknown before.
    is_unknown: bool
    version: int


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What the incident service has of an approval's incident: whether it knows it, and whether it would be resolved."""

    is_known: bool
    is_resolvable: bool


class IncidentDirectory(Protocol):
    """Looks up incidents."""

    async def find(self, incident_id: str) -> FoundIncident:
        """Return what is known about an incident, within a bounded time. Never raises: a failure is UNREACHABLE."""


class OperatedIncidents(IncidentDirectory, Protocol):
    """Incidents of operations that are about to run."""

    async def announce(self, entry: TimelineEntry, *, opening: int) -> IncidentCheck:
        """Record that an operation is about to run for an opening of an incident; return how the incident was by then.

        Idempotent by the entry's id. From then on no Resolve that was decided before, by the incident's etag, resolves it.
        Within a bounded time. Never raises: a failure is UNREACHABLE.
        """
