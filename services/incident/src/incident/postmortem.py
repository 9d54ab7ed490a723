"""Writes the postmortem of a resolution as Markdown, from the incident and its timeline alone."""

from collections.abc import Sequence
from datetime import timedelta

from incident.effects import ResolvedIncident
from incident.model import Event, EventType, ResolutionType

_HOW = {
    ResolutionType.NO_ACTION: "An approved decision to only observe was executed; nothing was changed.",
    ResolutionType.AUTO_REPAIRED: "An approved operation was executed and worked.",
    ResolutionType.HUMAN: "A person repaired it.",
    ResolutionType.DUPLICATE: "Another incident is about the same problem.",
    ResolutionType.FALSE_POSITIVE: "There was nothing wrong.",
    ResolutionType.EXPIRED_ALERT: "The alert stopped by itself or grew too old to act on.",
}
_TRIED = (
    EventType.PROPOSED,
    EventType.APPROVED,
    EventType.REJECTED,
    EventType.EXECUTED,
    EventType.EXECUTION_FAILED,
)


def write_postmortem(resolution: ResolvedIncident) -> str:
    """Return the Markdown (CommonMark) of one RESOLVED transition."""
    opened = next(
        (event for event in reversed(resolution.events) if event.type is EventType.REOPENED),
        resolution.events[0],
    )
    took = resolution.resolved.event_time - opened.event_time
    tried = [event for event in resolution.events if event.type in _TRIED]
    reports = f"{resolution.occurrence_count} report{'s' if resolution.occurrence_count != 1 else ''}"
    sections = [
        f"# {_line(resolution.title)}",
        f"{resolution.key.incident_id}, resolution {resolution.key.resolution_number}",
        "## Summary",
        _HOW[resolution.resolution_type],
        *([_quote(resolution.description)] if resolution.description else []),
        "## Impact",
        f"Severity {resolution.severity}; {reports}, source {_line(resolution.source) or 'not given'}.",
        "## Timeline",
        _bullets(resolution.events),
        "## What was tried",
        _bullets(tried) if tried else "No action is on record.",
        "## Resolution",
        f"{resolution.resolution_type} by {_line(resolution.resolved.actor)}, {_duration(took)} after it was opened.",
        *([_quote(resolution.resolved.summary)] if resolution.resolved.summary else []),
    ]
    return "\n\n".join(sections) + "\n"


def _bullets(events: Sequence[Event]) -> str:
    return "\n".join(
        f"- {event.event_time:%Y-%m-%d %H:%M:%S} UTC {event.type} by {_line(event.actor)}"
        + (f": {_line(event.summary)}" if event.summary else "")
        for event in events
    )


def _line(text: str) -> str:
    """One line: a caller's line break must not start a section."""
    return " ".join(text.split())


def _quote(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())


def _duration(time: timedelta) -> str:
    minutes, seconds = divmod(int(time.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes or hours else "", f"{seconds} s"]
    return " ".join(filter(None, parts))
