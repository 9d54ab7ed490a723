"""Writes the postmortem of a resolution as Markdown: a template over the incident and its timeline.

The template is a file, the built-in one or an operator's, and runs in Jinja's sandbox. It is rendered on samples when it
is loaded, so that its errors are found at start and not at the first incident.
"""

import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from incident.effects.model import ResolutionSnapshot
from incident.model import Event, EventType, ResolutionKey, ResolutionType, Severity
from servicekit.formatting import as_line, format_duration

_BUILT_IN = Path(__file__).parent / "templates" / "postmortem.md.j2"
_HOW = {
    ResolutionType.NO_ACTION: "An approved decision to only observe was executed; nothing was changed.",
    ResolutionType.AUTO_REPAIRED: "An approved operation was executed and worked. Nothing verified that it helped.",
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
    EventType.RECOVERED,
    EventType.NOT_RECOVERED,
)
_VERIFIED = "An approved operation was executed, and the alert was gone after it."


class PostmortemTemplateError(Exception):
    """A template cannot be read, or fails on an incident: file, line and reason."""


class PostmortemTemplate:
    """A template that worked on the samples."""

    def __init__(self, path: Path | None = None) -> None:
        """Load the template at `path`, None: the built-in one. Raises PostmortemTemplateError.

        It may include other files of its folder. None is read again while the process runs.
        """
        self._path = path or _BUILT_IN
        environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(self._path.parent),
            # The result is Markdown: the renderer of HTML escapes it.
            autoescape=False,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
        )
        environment.filters.update(duration=format_duration, line=as_line, quote=_quote, utc=_utc)
        try:
            self._template = environment.get_template(self._path.name)
        except TemplateSyntaxError as exc:
            raise PostmortemTemplateError(f"{exc.filename} line {exc.lineno}: {exc.message}") from exc
        except Exception as exc:
            raise PostmortemTemplateError(f"{self._path}: cannot be read: {type(exc).__name__}") from exc
        for sample in (_FULL_SAMPLE, _SPARSE_SAMPLE):
            self.render(sample, time_to_resolve=timedelta(minutes=7))

    def render(self, resolution: ResolutionSnapshot, *, time_to_resolve: timedelta) -> str:
        """Return the Markdown (CommonMark) of one RESOLVED transition. Raises PostmortemTemplateError."""
        try:
            return self._template.render(_variables(resolution, time_to_resolve))
        except TemplateSyntaxError as exc:
            raise PostmortemTemplateError(f"{exc.filename} line {exc.lineno}: {exc.message}") from exc
        except Exception as exc:
            raise PostmortemTemplateError(
                f"{self._where(exc)}: {as_line(str(exc)) or type(exc).__name__}"
            ) from exc

    def _where(self, error: Exception) -> str:
        # Jinja puts the template's lines into the traceback.
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if Path(frame.filename).is_relative_to(self._path.parent):
                return f"{frame.filename} line {frame.lineno}"
        return str(self._path)


def _quote(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())


def _utc(time: datetime) -> str:
    return f"{time.replace(tzinfo=None).isoformat(' ', 'seconds')} UTC"


def _variables(resolution: ResolutionSnapshot, time_to_resolve: timedelta) -> Mapping[str, Any]:
    """Return the variables of a template; the operator's documentation describes each."""
    return {
        "incident_id": resolution.key.incident_id,
        "resolution_number": resolution.key.resolution_number,
        "title": as_line(resolution.title),
        "description": resolution.description,
        "severity": resolution.severity.value,
        "source": as_line(resolution.source),
        "fingerprint": as_line(resolution.fingerprint),
        "labels": {as_line(name): as_line(value) for name, value in resolution.labels.items()},
        "occurrence_count": resolution.occurrence_count,
        "resolution_type": resolution.resolution_type.value,
        "how": _how(resolution),
        "resolved_by": as_line(resolution.resolved.actor),
        "approval_id": as_line(resolution.resolved.attributes.get("approval_id", "")),
        "action": as_line(resolution.resolved.attributes.get("action", "")),
        "note": resolution.resolved.summary,
        "open_time": resolution.resolved.event_time - time_to_resolve,
        "resolve_time": resolution.resolved.event_time,
        "time_to_resolve": time_to_resolve,
        "events": [_entry(event) for event in resolution.events],
        "tried": [_entry(event) for event in resolution.events if event.type in _TRIED],
    }


def _how(resolution: ResolutionSnapshot) -> str:
    """Return how the incident was resolved, and whether the alert was gone after the approval that resolved it."""
    approval_id = resolution.resolved.attributes.get("approval_id")
    is_verified = approval_id and any(
        event.type is EventType.RECOVERED and event.attributes.get("approval_id") == approval_id
        for event in resolution.events
    )
    if resolution.resolution_type is ResolutionType.AUTO_REPAIRED and is_verified:
        return _VERIFIED
    return _HOW[resolution.resolution_type]


def _entry(event: Event) -> Mapping[str, Any]:
    return {
        "time": event.event_time,
        "type": event.type.value,
        "actor": as_line(event.actor),
        "summary": as_line(event.summary),
        "attributes": {as_line(name): as_line(value) for name, value in event.attributes.items()},
    }


def _sample(types: Sequence[EventType], *, text: str) -> ResolutionSnapshot:
    events = [
        Event(
            event_id=f"sample/{sequence}",
            incident_id="INC-20260507-99ADF2",
            type=event_type,
            actor="sample",
            event_time=datetime(2026, 5, 7, 12, sequence, tzinfo=UTC),
            summary=text,
            attributes={"approval_id": text, "action": text} if text else {},
            resolution_number=1,
            sequence=sequence,
        )
        for sequence, event_type in enumerate(types)
    ]
    return ResolutionSnapshot(
        key=ResolutionKey("INC-20260507-99ADF2", 1),
        title="sample",
        description=text,
        severity=Severity.HIGH,
        source=text,
        fingerprint=text,
        labels={"sample": text} if text else {},
        occurrence_count=1,
        resolution_type=ResolutionType.NO_ACTION,
        resolved=events[-1],
        events=events,
    )


# Together they cover both branches of a template's conditions: each optional value is in one and not in the other.
_FULL_SAMPLE = _sample([EventType.OPENED, *_TRIED, EventType.RESOLVED], text="one\ntwo")
_SPARSE_SAMPLE = _sample([EventType.OPENED, EventType.RESOLVED], text="")
