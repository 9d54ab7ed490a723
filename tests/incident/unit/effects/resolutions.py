"""A resolution as the side effects see it, for tests without a database."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from incident.effects.model import ResolutionSnapshot
from incident.model import Event, EventType, ResolutionKey, ResolutionType, Severity

KEY = ResolutionKey("INC-20260507-99ADF2", 2)
DELIVERY_ID = "INC-20260507-99ADF2/webhook/2"
TOOK = timedelta(minutes=7, seconds=3)
OPENED = datetime(2026, 5, 7, 12, 0, tzinfo=UTC)


def event(
    event_type: EventType,
    *,
    after: timedelta = timedelta(0),
    actor: str = "alice",
    summary: str = "",
    attributes: Mapping[str, str] | None = None,
) -> Event:
    """An entry of the timeline, so long after the incident was opened."""
    return Event(
        event_id=f"{event_type}/{after}",
        incident_id=KEY.incident_id,
        type=event_type,
        actor=actor,
        event_time=OPENED + after,
        summary=summary,
        attributes=attributes or {},
        resolution_number=KEY.resolution_number,
        sequence=1,
    )


def resolution(between: Sequence[Event] = (), **changes: Any) -> ResolutionSnapshot:
    """An incident that was opened and, 7 minutes 3 seconds later, resolved; with `changes` of a test."""
    resolved = event(
        EventType.RESOLVED,
        after=TOOK,
        summary="observed",
        attributes={
            "resolution_type": "NO_ACTION",
            "approval_id": "APR-20260507-1A2B3C",
            "action": "NO_ACTION: observe first",
        },
    )
    content: dict[str, Any] = {
        "key": KEY,
        "title": "disk full on db-1",
        "description": "",
        "severity": Severity.HIGH,
        "source": "alertmanager",
        "fingerprint": "disk-full/db-1",
        "labels": {"host": "db-1"},
        "occurrence_count": 1,
        "resolution_type": ResolutionType.NO_ACTION,
        "resolved": resolved,
        "events": [event(EventType.OPENED, summary="disk full on db-1"), *between, resolved],
    }
    return ResolutionSnapshot(**(content | changes))
