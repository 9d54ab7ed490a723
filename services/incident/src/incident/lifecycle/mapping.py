"""Incidents, timelines and the lifecycle commands between the contract and the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.lifecycle.model import (
    IncidentFilter,
    Lookup,
    LookupResult,
    NewEvent,
    NewIncident,
    Order,
    RemovedIncident,
    ReopenCommand,
    ResolveCommand,
    ResolveOutcome,
    ResolveResult,
)
from incident.model import INCIDENT_ID_PREFIX, OWN_EVENT_PREFIX, Event, EventType, Incident, State
from incident.wire_enums import RESOLUTION_TYPES, SEVERITIES, STATES
from servicekit.database.ids import id_pattern
from servicekit.rpc.interceptors.text_fields import normalize
from servicekit.rpc.interceptors.validation import check, invalid_argument
from servicekit.rpc.mapping import WireEnum, optional_time, optional_timestamp
from servicekit.rpc.status_codes import ErrorTable
from servicekit.rpc.status_details import FieldViolation, RpcError
from servicekit.rpc.timestamps import to_timestamp
from servicekit.text import line

EVENT_TYPES = WireEnum(EventType, "TYPE", incident_pb2.IncidentEvent.Type.Value)
_ORDERS = WireEnum(Order, "ORDER", pb.ListRequest.Order.Value)
# Event ids that services make: another caller that took one would keep the service's own event off the timeline.
_RESERVED_EVENT_IDS: Mapping[str, str | None] = {
    OWN_EVENT_PREFIX: None,
    "service:": None,
    "APR-": "service:approval",
}
_INCIDENT_ID = id_pattern(INCIDENT_ID_PREFIX)


def incident_to_proto(incident: Incident) -> incident_pb2.Incident:
    """Return the message of an incident."""
    message = incident_pb2.Incident(
        incident_id=incident.incident_id,
        title=incident.title,
        description=incident.description,
        severity=SEVERITIES.to_wire(incident.severity),
        state=STATES.to_wire(incident.state),
        fingerprint=incident.fingerprint,
        labels=incident.labels,
        source=incident.source,
        occurrence_count=incident.occurrence_count,
        last_seen_time=to_timestamp(incident.last_seen_time),
        create_time=to_timestamp(incident.create_time),
        update_time=to_timestamp(incident.update_time),
        investigate_time=optional_timestamp(incident.investigate_time),
        resolve_time=optional_timestamp(incident.resolve_time),
        last_progress_time=to_timestamp(incident.last_progress_time),
        resolution_note=incident.resolution_note,
        resolved_by=incident.resolved_by,
        resolution_number=incident.resolution_number,
        opened_by=incident.opened_by,
        etag=incident.etag,
        opening=incident.opening,
        canary=incident.is_canary,
    )
    if incident.resolution_type is not None:
        message.resolution_type = RESOLUTION_TYPES.to_wire(incident.resolution_type)
    return message


def event_to_proto(event: Event) -> incident_pb2.IncidentEvent:
    """Return the message of a timeline entry."""
    return incident_pb2.IncidentEvent(
        event_id=event.event_id,
        incident_id=event.incident_id,
        type=EVENT_TYPES.to_wire(event.type),
        actor=event.actor,
        event_time=to_timestamp(event.event_time),
        summary=event.summary,
        attributes=event.attributes,
        resolution_number=event.resolution_number,
        sequence=event.sequence,
    )


def new_incident(request: pb.CreateRequest) -> NewIncident:
    """Read a Create."""
    return NewIncident(
        title=request.title,
        severity=SEVERITIES.from_wire(request.severity),
        description=request.description,
        fingerprint=request.fingerprint,
        labels=dict(request.labels),
        source=request.source,
        incident_id=request.incident_id,
        request_id=request.request_id,
    )


def incident_filter(request: pb.ListRequest) -> IncidentFilter:
    """Read the criteria and the order of a List."""
    return IncidentFilter(
        states=tuple(STATES.all_from_wire(request.states)),
        severities=tuple(SEVERITIES.all_from_wire(request.severities)),
        fingerprint=request.fingerprint,
        labels=dict(request.labels),
        create_time_start=optional_time(request, "create_time_start"),
        create_time_end=optional_time(request, "create_time_end"),
        resolve_time_start=optional_time(request, "resolve_time_start"),
        resolve_time_end=optional_time(request, "resolve_time_end"),
        stuck=request.stuck,
        order=_ORDERS.get(request.order, Order.CREATE_TIME_DESC),
    )


def resolve_command(
    request: pb.ResolveRequest | pb.BatchResolveRequest.Item, *, actor: str
) -> ResolveCommand:
    """Read a Resolve or an item of a BatchResolve. Raises the error that names the field of a reserved event id."""
    return ResolveCommand(
        request.incident_id,
        RESOLUTION_TYPES.from_wire(request.resolution_type),
        request.note,
        actor=actor,
        etag=request.etag if isinstance(request, pb.ResolveRequest) else "",
        approval_id=request.approval_id,
        # As it was proposed: by a version before actions were one line, perhaps.
        action=line(request.action),
        opening=request.opening,
        execute_time=optional_time(request, "execute_time"),
        approval_events=[
            _approval_event(event, f"approval_events[{index}]", request.incident_id, actor=actor)
            for index, event in enumerate(request.approval_events)
        ],
    )


@dataclass(frozen=True, slots=True)
class BatchItems:
    """The items of a BatchResolve: the commands of the valid ones, in order, and the errors of the others by index."""

    commands: Sequence[ResolveCommand]
    errors: Mapping[int, RpcError]


def batch_items(request: pb.BatchResolveRequest, *, actor: str) -> BatchItems:
    """Read a BatchResolve. An item that violates a rule of the contract fails alone."""
    commands: list[ResolveCommand] = []
    errors: dict[int, RpcError] = {}
    for index, item in enumerate(request.items):
        try:
            check(item)
            commands.append(resolve_command(item, actor=actor))
        except RpcError as exc:
            errors[index] = exc
    return BatchItems(commands, errors)


def batch_response(
    request: pb.BatchResolveRequest,
    items: BatchItems,
    outcomes: Sequence[ResolveOutcome],
    errors: ErrorTable,
) -> pb.BatchResolveResponse:
    """Return the results of a BatchResolve in the order of its items; `outcomes` are those of the commands."""
    response = pb.BatchResolveResponse()
    remaining = iter(outcomes)
    for index, item in enumerate(request.items):
        outcome = items.errors[index] if index in items.errors else next(remaining)
        result = response.results.add()
        if _INCIDENT_ID.fullmatch(item.incident_id):
            result.incident_id = item.incident_id
        if isinstance(outcome, Exception):
            result.status.CopyFrom(errors.status_of(outcome, method="BatchResolve").to_status())
        else:
            result.resolved.CopyFrom(_resolved_to_proto(outcome))
    return response


def resolve_response(result: ResolveResult) -> pb.ResolveResponse:
    """Return the response of a Resolve."""
    if isinstance(result.incident, RemovedIncident):
        incident = incident_pb2.Incident(
            incident_id=result.incident.incident_id,
            state=STATES.to_wire(State.RESOLVED),
            resolution_number=result.incident.resolution_number,
            opening=result.incident.resolution_number,
        )
    else:
        incident = incident_to_proto(result.incident)
    return pb.ResolveResponse(incident=incident, already_resolved=result.already_resolved)


def _resolved_to_proto(result: ResolveResult) -> pb.BatchResolveResponse.Resolved:
    if isinstance(result.incident, RemovedIncident):
        return pb.BatchResolveResponse.Resolved(
            already_resolved=True, resolution_number=result.incident.resolution_number
        )
    message = pb.BatchResolveResponse.Resolved(
        already_resolved=result.already_resolved,
        resolve_time=optional_timestamp(result.incident.resolve_time),
        resolution_number=result.incident.resolution_number,
        etag=result.incident.etag,
    )
    if result.incident.resolution_type is not None:
        message.resolution_type = RESOLUTION_TYPES.to_wire(result.incident.resolution_type)
    return message


def lookups(request: pb.LookupIncidentsRequest) -> Sequence[Lookup]:
    """Read a LookupIncidents."""
    return [
        Lookup(
            item.incident_id,
            item.approval_id,
            item.opening,
            optional_time(item, "execute_time", within=f"items[{index}]."),
        )
        for index, item in enumerate(request.items)
    ]


def lookup_response(results: Sequence[LookupResult]) -> pb.LookupIncidentsResponse:
    """Return the response of a LookupIncidents. An incident that is unknown has no state."""
    response = pb.LookupIncidentsResponse()
    for result in results:
        response.results.add(
            incident_id=result.incident_id,
            state=None if result.state is None else STATES.to_wire(result.state),
            opening=result.opening,
            removed=result.is_removed,
            resolvable=result.is_resolvable,
        )
    return response


def reopen_command(request: pb.ReopenRequest, *, actor: str) -> ReopenCommand:
    """Read a Reopen."""
    return ReopenCommand(
        request.incident_id, request.reason, actor=actor, etag=request.etag, request_id=request.request_id
    )


def _approval_event(event: pb.ApprovalEvent, path: str, incident_id: str, *, actor: str) -> NewEvent:
    # As an AddEvent is, so that the two write the same: messages within a message are not normalized with it.
    if same_keys := normalize(event):
        raise invalid_argument(
            *(FieldViolation(f"{path}.{each.field}", each.description) for each in same_keys)
        )
    return NewEvent(
        event_id=event.event_id,
        incident_id=incident_id,
        type=EVENT_TYPES.from_wire(event.type),
        actor=actor,
        event_time=optional_time(event, "event_time"),
        summary=event.summary,
        attributes=dict(event.attributes),
        is_of_service=_is_of_service(event.event_id, f"{path}.event_id", actor),
    )


def new_event(request: pb.AddEventRequest, *, actor: str) -> NewEvent:
    """Read an AddEvent. Raises the error that names the field when the event's id is reserved for a service."""
    return NewEvent(
        event_id=request.event_id,
        incident_id=request.incident_id,
        type=EVENT_TYPES.from_wire(request.type),
        actor=actor,
        event_time=optional_time(request, "event_time"),
        summary=request.summary,
        attributes=dict(request.attributes),
        is_of_service=_is_of_service(request.event_id, "event_id", actor),
    )


def _is_of_service(event_id: str, path: str, actor: str) -> bool:
    reserved = [prefix for prefix in _RESERVED_EVENT_IDS if event_id.startswith(prefix)]
    for prefix in reserved:
        if actor != _RESERVED_EVENT_IDS[prefix]:
            raise invalid_argument(FieldViolation(path, f"must not start with {prefix}"))
    return bool(reserved)
