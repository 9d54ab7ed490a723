"""Side effects of a resolution: their state, their input and their output. Knows no database and no wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType, TypeAlias

from incident.model import Effect, Event, ResolutionKey, ResolutionType, Severity


class SideEffectState(StrEnum):
    """The state of a side effect. PARKED: dead-lettered, it waits for an operator; DISMISSED: an operator gave it up."""

    PENDING = "PENDING"
    DONE = "DONE"
    PARKED = "PARKED"
    SKIPPED = "SKIPPED"
    DISMISSED = "DISMISSED"


@dataclass(frozen=True, slots=True)
class SideEffectDismissal:
    """That an operator gave a side effect up: who, why and when."""

    actor: str
    reason: str
    dismiss_time: datetime


@dataclass(frozen=True, slots=True)
class SideEffect:
    """One side effect of one RESOLVED transition. `sequence` grows in the order of enqueueing."""

    incident_id: str
    # None: of another version of the service, which knows its incident and resolution.
    effect: Effect | None
    resolution_number: int
    # The idempotency key, the same for every attempt.
    delivery_id: str
    state: SideEffectState
    attempts: int
    last_error: str
    create_time: datetime
    next_attempt_time: datetime
    done_time: datetime | None
    requeued_by: str
    dismissal: SideEffectDismissal | None
    sequence: int


@dataclass(frozen=True, slots=True)
class EffectOfResolution:
    """Names a side effect of an incident's resolution; `resolution_number` 0 means the latest."""

    incident_id: str
    effect: Effect
    resolution_number: int


# The delivery id of a side effect: the only name of a job of another version.
DeliveryId = NewType("DeliveryId", str)
SideEffectName: TypeAlias = EffectOfResolution | DeliveryId


@dataclass(frozen=True, slots=True)
class SideEffectPage:
    """A page of side effects, newest first; `next_position` is the sequence number that the next page is before."""

    side_effects: Sequence[SideEffect]
    next_position: int | None


@dataclass(frozen=True, slots=True)
class OpenSideEffects:
    """The number of PENDING and of PARKED side effects of each effect (None: of another version's); else it is 0."""

    counts: Mapping[tuple[Effect | None, SideEffectState], int]
    oldest_pending_seconds: float


@dataclass(frozen=True, slots=True)
class ResolutionSnapshot:
    """A RESOLVED transition: the incident's constants, and the timeline up to it in the order in which things happened.

    Made of immutable facts, so that it is the same however late an effect runs.
    """

    key: ResolutionKey
    title: str
    description: str
    severity: Severity
    source: str
    fingerprint: str
    labels: Mapping[str, str]
    occurrence_count: int
    resolution_type: ResolutionType
    resolved: Event
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Postmortem:
    """The stored postmortem of one RESOLVED transition."""

    incident_id: str
    resolution_number: int
    resolution_type: ResolutionType
    markdown: str
    create_time: datetime
