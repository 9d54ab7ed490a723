"""Incidents and changes that no database has."""

from datetime import UTC, datetime
from typing import Any

from incident.model import Event, EventType, Incident, Severity, State
from incident.watch.changes import Change
from servicekit.watch.model import Position
from servicekit.watch.snapshot import Snapshot

_TIME = datetime(2026, 5, 7, tzinfo=UTC)
_SNAPSHOT = Snapshot(10, 10)


def incident(**fields: Any) -> Incident:
    """An open incident, with these fields."""
    usual: dict[str, Any] = {
        "incident_id": "INC-20260507-0000A1",
        "title": "disk full",
        "description": "",
        "severity": Severity.HIGH,
        "state": State.OPEN,
        "fingerprint": "",
        "labels": {},
        "source": "",
        "occurrence_count": 1,
        "last_seen_time": _TIME,
        "create_time": _TIME,
        "update_time": _TIME,
        "investigate_time": None,
        "resolve_time": None,
        "last_progress_time": _TIME,
        "resolution_type": None,
        "resolution_note": "",
        "resolved_by": "",
        "resolution_number": 0,
        "opened_by": "tester",
        "version": 1,
    }
    return Incident(**(usual | fields))


def change(
    changed: Incident,
    *,
    sequence: int = 1,
    before: State | None = State.OPEN,
    after: State = State.OPEN,
    position: Position | None = None,
) -> Change:
    """A change of an incident; its event is a note for any states."""
    event = Event(
        event_id=f"event-{sequence}",
        incident_id=changed.incident_id,
        type=EventType.NOTE,
        actor="tester",
        event_time=_TIME,
        summary="seen",
        attributes={},
        resolution_number=0,
        sequence=sequence,
    )
    return Change(event, changed, before, after, position or Position(_SNAPSHOT, _SNAPSHOT, sequence))
