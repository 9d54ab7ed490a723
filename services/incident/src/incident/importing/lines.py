"""The lines of incidents in an import: their fields, their rules, the rows and timelines that they become."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from incident.importing.timeline_lines import RANKS, ImportedEvent
from incident.lifecycle.model import NewIncident
from incident.model import (
    INCIDENT_ID_PREFIX,
    OWN_EVENT_PREFIX,
    Effect,
    EventType,
    ResolutionType,
    Severity,
    State,
)
from servicekit.importing.fields import (
    Actor,
    Labels,
    Line,
    LongText,
    Name,
    TextForm,
    Time,
    identifier,
    out_of_order,
    text,
)

_MAX_OCCURRENCES = 2**31 - 1
# The actor of a line without one.
_IMPORT = "import"
_SERVICE = "service:incident"
_IMPORTED = "imported: what stands before this was written down by the system before"


class IncidentLine(Line):
    """An incident of the previous system."""

    kind: Literal["incident"]
    incident_id: Annotated[str, identifier(INCIDENT_ID_PREFIX)]
    title: Annotated[str, text(TextForm.LINE, characters=500, blank=False)]
    description: LongText | None = None
    severity: Severity
    state: State
    # At most one unresolved incident has it.
    fingerprint: Name | None = None
    labels: Labels | None = None
    source: Name | None = None
    occurrence_count: Annotated[int, Field(ge=1, le=_MAX_OCCURRENCES)] | None = None
    opened_by: Actor | None = None
    create_time: Time
    # When it was reported last; as a rule when it was created.
    last_seen_time: Time | None = None
    investigate_time: Time | None = None
    resolve_time: Time | None = None
    resolution_type: ResolutionType | None = None
    resolution_note: LongText | None = None
    resolved_by: Actor | None = None

    def contradictions(self, now: datetime) -> Iterator[tuple[str, str]]:
        """Yield each field that contradicts others, and why."""
        is_resolved = self.state is State.RESOLVED
        for field in ("resolve_time", "resolution_type"):
            if is_resolved and getattr(self, field) is None:
                yield field, "is required when the state is RESOLVED"
        for field in ("resolve_time", "resolution_type", "resolution_note", "resolved_by"):
            if not is_resolved and getattr(self, field):
                yield field, f"does not go with the state {self.state}"
        if self.state is State.INVESTIGATING and self.investigate_time is None:
            yield "investigate_time", "is required when the state is INVESTIGATING"
        if self.state is State.OPEN and self.investigate_time is not None:
            yield "investigate_time", "does not go with the state OPEN"
        yield from self._wrong_times(now)

    def _wrong_times(self, now: datetime) -> Iterator[tuple[str, str]]:
        names = ("create_time", "investigate_time", "resolve_time")
        yield from out_of_order({name: getattr(self, name) for name in names}, now=now)
        if self.last_seen_time is None:
            return
        if self.last_seen_time > now:
            yield "last_seen_time", "lies in the future"
        if self.last_seen_time < self.create_time:
            yield "last_seen_time", "is before create_time"
        if self.resolve_time is not None and self.last_seen_time > self.resolve_time:
            yield "last_seen_time", "is after resolve_time"

    def row(self) -> Mapping[str, Any]:
        """Return the columns of the incident as JSON, without the id and without those that depend on other lines."""
        new = NewIncident(
            title=self.title,
            severity=self.severity,
            description=self.description or "",
            fingerprint=self.fingerprint or "",
            labels=self.labels or {},
            source=self.source or "",
        )
        return {
            "title": new.title,
            "description": new.description,
            "severity": new.severity,
            "state": self.state,
            "fingerprint": new.fingerprint,
            "labels": dict(new.labels),
            "source": new.source,
            "occurrence_count": self.occurrence_count or 1,
            "create_time": self.create_time.isoformat(),
            "last_seen_time": (self.last_seen_time or self.create_time).isoformat(),
            "investigate_time": self.investigate_time and self.investigate_time.isoformat(),
            "resolve_time": self.resolve_time and self.resolve_time.isoformat(),
            "resolution_type": self.resolution_type,
            "resolution_note": self.resolution_note or "",
            "resolved_by": self._resolved_by,
            "resolution_number": self._resolution_number,
            "opened_by": self._opened_by,
            "content_hash": new.content_hash(),
        }

    @property
    def _opened_by(self) -> str:
        return self.opened_by or _IMPORT

    @property
    def _resolved_by(self) -> str:
        return (self.resolved_by or _IMPORT) if self.state is State.RESOLVED else ""

    @property
    def _resolution_number(self) -> int:
        return 1 if self.state is State.RESOLVED else 0

    def events(self) -> Iterator[ImportedEvent]:
        """Yield the timeline that leads to this state, and a note about the import."""
        opener = self._opened_by
        yield self._event(
            "imported/opened", EventType.OPENED, actor=opener, time=self.create_time, summary=self.title
        )
        if self.investigate_time is not None:
            yield self._event(
                "imported/investigation_started",
                EventType.INVESTIGATION_STARTED,
                actor=opener,
                time=self.investigate_time,
            )
        if self.resolve_time is not None and self.resolution_type is not None:
            yield self._event(
                "resolved/1",
                EventType.RESOLVED,
                actor=self._resolved_by,
                time=self.resolve_time,
                summary=self.resolution_note or "",
                attributes={"resolution_type": self.resolution_type.value},
            )
            yield self._event(
                "effect_done/disposition/1",
                EventType.EFFECT_DONE,
                actor=_SERVICE,
                attributes={"effect": Effect.DISPOSITION.value},
            )
        yield self._event("imported", EventType.NOTE, actor=_IMPORT, summary=_IMPORTED)

    def _event(
        self,
        name: str,
        event_type: EventType,
        *,
        actor: str,
        time: datetime | None = None,
        summary: str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> ImportedEvent:
        earlier = event_type in (EventType.OPENED, EventType.INVESTIGATION_STARTED)
        return ImportedEvent(
            f"{OWN_EVENT_PREFIX}{self.incident_id}/{name}",
            self.incident_id,
            event_type,
            actor,
            time,
            RANKS[event_type],
            summary,
            attributes or {},
            0 if earlier else self._resolution_number,
        )
