"""Incidents, their timelines, and changes of them."""

from typing import Final

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from flywheel.operator.output.cells import age, clock, enum_name, line, pairs, time
from flywheel.operator.output.view import Column, View

_Incident = incident_pb2.Incident
_Event = incident_pb2.IncidentEvent


def state(incident: _Incident) -> str:
    """Return the state."""
    return enum_name(_Incident.State, "STATE_", incident.state)


def severity(incident: _Incident) -> str:
    """Return the severity."""
    return enum_name(incident_pb2.Severity, "SEVERITY_", incident.severity)


def resolution(number: int) -> str:
    """Return a resolution type."""
    return enum_name(incident_pb2.ResolutionType, "RESOLUTION_TYPE_", number)


def event_type(event: _Event) -> str:
    """Return what happened."""
    return enum_name(_Event.Type, "TYPE_", event.type)


INCIDENT: Final = View[_Incident](
    "incidents",
    columns=[
        Column("ID", lambda each: each.incident_id),
        Column("SEVERITY", severity),
        Column("STATE", state),
        Column("AGE", lambda each: age(each, "create_time")),
        Column("PROGRESS", lambda each: age(each, "last_progress_time")),
        Column("OPENED", lambda each: time(each, "create_time"), wide=True),
        Column("SEEN", lambda each: str(each.occurrence_count), wide=True),
        Column("RESOLUTION", lambda each: resolution(each.resolution_type), wide=True),
        Column("RESOLVED BY", lambda each: each.resolved_by, wide=True),
        Column("SOURCE", lambda each: each.source, wide=True),
        Column("FINGERPRINT", lambda each: each.fingerprint, wide=True),
        Column("LABELS", lambda each: pairs(each.labels), wide=True),
        Column("TITLE", lambda each: each.title),
    ],
    details=[
        Column("OPENED BY", lambda each: each.opened_by),
        Column("LAST SEEN", lambda each: time(each, "last_seen_time")),
        Column("INVESTIGATED", lambda each: time(each, "investigate_time")),
        Column("LAST PROGRESS", lambda each: time(each, "last_progress_time")),
        Column("RESOLVED", lambda each: time(each, "resolve_time")),
        Column("RESOLUTIONS", lambda each: str(each.resolution_number or "")),
        Column("OPENING", lambda each: str(each.opening)),
        Column("ETAG", lambda each: each.etag),
        Column("DESCRIPTION", lambda each: each.description),
        Column("NOTE", lambda each: each.resolution_note),
    ],
)

EVENT: Final = View[_Event](
    "events",
    columns=[
        Column("TIME", lambda each: time(each, "event_time")),
        Column("EVENT", event_type),
        Column("ACTOR", lambda each: each.actor),
        Column("ID", lambda each: each.event_id, wide=True),
        Column("ATTRIBUTES", lambda each: pairs(each.attributes), wide=True),
        # Side effects have no summary: which one it was is an attribute.
        Column("SUMMARY", lambda each: each.summary or pairs(each.attributes)),
    ],
)


def change(response: pb.WatchResponse) -> str:
    """Return a change on one line; of an incident that was there before, how it is."""
    incident, event = response.incident, response.event
    happened = event_type(event) if response.HasField("event") else "EXISTING"
    when = clock(event.event_time if response.HasField("event") else incident.update_time)
    parts = [
        when,
        f"{happened:<21}",
        incident.incident_id,
        f"{severity(incident):<8}",
        f"{state(incident):<13}",
    ]
    return "  ".join([*parts, line(incident.title), *([f"({line(event.actor)})"] if event.actor else [])])
