"""Watch between the contract and the model."""

from functools import lru_cache

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.lifecycle.mapping import event_to_proto, incident_to_proto
from incident.model import Incident
from incident.watch.changes import Change, WatchFilter
from incident.wire_enums import SEVERITIES, STATES
from servicekit.watch.model import Step

# All watchers get a change at about the same time: its messages are built for the first and copied for the others.
_BUILT_CHANGES = 64


def watch_filter(request: pb.WatchRequest) -> WatchFilter:
    """Read the criteria of a Watch."""
    return WatchFilter(
        states=tuple(STATES.all_from_wire(request.states)),
        severities=tuple(SEVERITIES.all_from_wire(request.severities)),
        fingerprint=request.fingerprint,
        labels=dict(request.labels),
        incident_id=request.incident_id,
    )


def watch_response(step: Step[Change, Incident]) -> pb.WatchResponse:
    """Return the message of a step."""
    if step.change is not None:
        incident, event = _change_to_proto(step.change)
        return pb.WatchResponse(incident=incident, event=event, resume_token=step.resume_token)
    existing = None if step.existing is None else incident_to_proto(step.existing)
    return pb.WatchResponse(incident=existing, resume_token=step.resume_token)


@lru_cache(maxsize=_BUILT_CHANGES)
def _change_to_proto(change: Change) -> tuple[incident_pb2.Incident, incident_pb2.IncidentEvent]:
    return incident_to_proto(change.incident), event_to_proto(change.event)
