"""Between the wire's messages and the model. Enums have the same names on both sides."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.model import (
    OWN_EVENT_PREFIX,
    Effect,
    Event,
    EventType,
    Incident,
    IncidentFilter,
    KnowledgeMatch,
    NewEvent,
    NewIncident,
    Order,
    Postmortem,
    Reopen,
    Resolution,
    ResolutionType,
    Resolve,
    Severity,
    SideEffect,
    SideEffectState,
    State,
)
from servicekit.rpc.error_table import ErrorTable
from servicekit.rpc.interceptors.validation import check, invalid_argument
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.status import FieldViolation, RpcError
from servicekit.rpc.timestamps import from_timestamp, to_timestamp

_E = TypeVar("_E", bound=StrEnum)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INCIDENT_ID = re.compile(r"INC-[0-9]{8}-[0-9A-F]{6,12}")
_DEFAULT_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 1000


def _numbers(members: type[_E], prefix: str, value: Callable[[str], int]) -> Mapping[_E, int]:
    return {member: value(f"{prefix}_{member}") for member in members}


_STATES = _numbers(State, "STATE", incident_pb2.Incident.State.Value)
_SEVERITIES = _numbers(Severity, "SEVERITY", incident_pb2.Severity.Value)
_RESOLUTION_TYPES = _numbers(ResolutionType, "RESOLUTION_TYPE", incident_pb2.ResolutionType.Value)
_EVENT_TYPES = _numbers(EventType, "TYPE", incident_pb2.IncidentEvent.Type.Value)
_EFFECTS = _numbers(Effect, "EFFECT", incident_pb2.SideEffect.Effect.Value)
_SIDE_EFFECT_STATES = _numbers(SideEffectState, "STATE", incident_pb2.SideEffect.State.Value)
_ORDERS = _numbers(Order, "ORDER", pb.ListRequest.Order.Value)

_STATE_OF = {number: member for member, number in _STATES.items()}
_SEVERITY_OF = {number: member for member, number in _SEVERITIES.items()}
_RESOLUTION_TYPE_OF = {number: member for member, number in _RESOLUTION_TYPES.items()}
_EVENT_TYPE_OF = {number: member for member, number in _EVENT_TYPES.items()}
_EFFECT_OF = {number: member for member, number in _EFFECTS.items()}
_SIDE_EFFECT_STATE_OF = {number: member for member, number in _SIDE_EFFECT_STATES.items()}
_ORDER_OF = {number: member for member, number in _ORDERS.items()}


def incident_to_proto(incident: Incident) -> incident_pb2.Incident:
    """Return the message of an incident."""
    message = incident_pb2.Incident(
        incident_id=incident.incident_id,
        title=incident.title,
        description=incident.description,
        severity=_SEVERITIES[incident.severity],  # type: ignore[arg-type]  # a number of the enum
        state=_STATES[incident.state],  # type: ignore[arg-type]  # a number of the enum
        fingerprint=incident.fingerprint,
        labels=incident.labels,
        source=incident.source,
        occurrence_count=incident.occurrence_count,
        last_seen_time=to_timestamp(incident.last_seen_time),
        create_time=to_timestamp(incident.create_time),
        update_time=to_timestamp(incident.update_time),
        investigate_time=_optional(incident.investigate_time),
        resolve_time=_optional(incident.resolve_time),
        last_progress_time=to_timestamp(incident.last_progress_time),
        resolution_note=incident.resolution_note,
        resolved_by=incident.resolved_by,
        resolution_number=incident.resolution_number,
        opened_by=incident.opened_by,
        etag=incident.etag,
    )
    if incident.resolution_type is not None:
        message.resolution_type = _RESOLUTION_TYPES[incident.resolution_type]  # type: ignore[assignment]
    return message


def event_to_proto(event: Event) -> incident_pb2.IncidentEvent:
    """Return the message of a timeline's entry."""
    return incident_pb2.IncidentEvent(
        event_id=event.event_id,
        incident_id=event.incident_id,
        type=_EVENT_TYPES[event.type],  # type: ignore[arg-type]  # a number of the enum
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
        severity=_SEVERITY_OF[request.severity],
        description=request.description,
        fingerprint=request.fingerprint,
        labels=dict(request.labels),
        source=request.source,
        incident_id=request.incident_id,
        request_id=request.request_id,
    )


def resolve_command(request: pb.ResolveRequest | pb.BatchResolveRequest.Item, *, actor: str) -> Resolve:
    """Read a Resolve or an item of a BatchResolve."""
    etag = request.etag if isinstance(request, pb.ResolveRequest) else ""
    return Resolve(
        request.incident_id,
        _RESOLUTION_TYPE_OF[request.resolution_type],
        request.note,
        actor=actor,
        etag=etag,
        approval_id=request.approval_id,
        action=request.action,
    )


def batch_commands(request: pb.BatchResolveRequest, *, actor: str) -> Sequence[Resolve | Exception]:
    """Read a BatchResolve's items; in place of one that breaks a rule, the error that is its result."""
    commands: list[Resolve | Exception] = []
    for item in request.items:
        try:
            check(item)
        except RpcError as exc:
            commands.append(exc)
        else:
            commands.append(resolve_command(item, actor=actor))
    return commands


def batch_response(
    request: pb.BatchResolveRequest, outcomes: Sequence[Resolution | Exception], errors: ErrorTable
) -> pb.BatchResolveResponse:
    """Return the results of a BatchResolve in the order of its items."""
    response = pb.BatchResolveResponse()
    for item, outcome in zip(request.items, outcomes, strict=True):
        result = response.results.add()
        if _INCIDENT_ID.fullmatch(item.incident_id):
            result.incident_id = item.incident_id
        if isinstance(outcome, Exception):
            result.status.CopyFrom(errors.status_of(outcome, method="BatchResolve").to_status())
        else:
            result.resolved.CopyFrom(_resolved_to_proto(outcome))
    return response


def _resolved_to_proto(resolution: Resolution) -> pb.BatchResolveResponse.Resolved:
    message = pb.BatchResolveResponse.Resolved(
        already_resolved=resolution.already_resolved,
        resolve_time=_optional(resolution.incident.resolve_time),
        resolution_number=resolution.incident.resolution_number,
        etag=resolution.incident.etag,
    )
    if resolution.incident.resolution_type is not None:
        message.resolution_type = _RESOLUTION_TYPES[resolution.incident.resolution_type]  # type: ignore[assignment]
    return message


def reopen_command(request: pb.ReopenRequest, *, actor: str) -> Reopen:
    """Read a Reopen."""
    return Reopen(
        request.incident_id, request.reason, actor=actor, etag=request.etag, request_id=request.request_id
    )


def new_event(request: pb.AddEventRequest, *, actor: str) -> NewEvent:
    """Read an AddEvent."""
    if request.event_id.startswith(OWN_EVENT_PREFIX):
        raise invalid_argument(FieldViolation("event_id", f"must not start with {OWN_EVENT_PREFIX}"))
    return NewEvent(
        event_id=request.event_id,
        incident_id=request.incident_id,
        type=_EVENT_TYPE_OF[request.type],
        actor=actor,
        event_time=_optional_time(request, "event_time"),
        summary=request.summary,
        attributes=dict(request.attributes),
    )


def side_effect_to_proto(found: SideEffect) -> incident_pb2.SideEffect:
    """Return the message of a side effect."""
    skipped = found.state is SideEffectState.SKIPPED
    return incident_pb2.SideEffect(
        incident_id=found.incident_id,
        effect=_EFFECTS[found.effect],  # type: ignore[arg-type]  # a number of the enum
        resolution_number=found.resolution_number,
        state=_SIDE_EFFECT_STATES[found.state],  # type: ignore[arg-type]  # a number of the enum
        attempts=found.attempts,
        last_error="" if skipped else found.last_error,
        skip_reason=found.last_error if skipped else "",
        create_time=to_timestamp(found.create_time),
        next_attempt_time=(
            to_timestamp(found.next_attempt_time) if found.state is SideEffectState.PENDING else None
        ),
        done_time=_optional(found.done_time),
        delivery_id=found.delivery_id,
    )


def postmortem_to_proto(postmortem: Postmortem) -> incident_pb2.Postmortem:
    """Return the message of a postmortem."""
    return incident_pb2.Postmortem(
        incident_id=postmortem.incident_id,
        resolution_number=postmortem.resolution_number,
        resolution_type=_RESOLUTION_TYPES[postmortem.resolution_type],  # type: ignore[arg-type]  # of the enum
        markdown=postmortem.markdown,
        create_time=to_timestamp(postmortem.create_time),
    )


def match_to_proto(match: KnowledgeMatch) -> pb.SearchKnowledgeResponse.Match:
    """Return the message of what a search found."""
    entry = match.entry
    mean = Duration()
    mean.FromTimedelta(entry.mean_resolution_time)
    return pb.SearchKnowledgeResponse.Match(
        entry=incident_pb2.KnowledgeEntry(
            knowledge_id=entry.knowledge_id,
            incident_id=entry.incident_id,
            symptoms=entry.symptoms,
            resolution=entry.resolution,
            resolution_type=_RESOLUTION_TYPES[entry.resolution_type],  # type: ignore[arg-type]  # of the enum
            action=entry.action,
            use_count=entry.use_count,
            success_count=entry.success_count,
            create_time=to_timestamp(entry.create_time),
            update_time=to_timestamp(entry.update_time),
            mean_resolution_time=mean,
        ),
        rank=match.rank,
    )


def resolution_types(request: pb.SearchKnowledgeRequest) -> Sequence[ResolutionType]:
    """Read the resolution types that a SearchKnowledge asks for."""
    return [_RESOLUTION_TYPE_OF[number] for number in request.resolution_types]


def knowledge_position(
    request: pb.SearchKnowledgeRequest, tokens: PageTokens
) -> tuple[float, int, str] | None:
    """Read where a SearchKnowledge goes on; None for the first page. Raises InvalidPageTokenError."""
    if not request.page_token:
        return None
    rank, successes, knowledge_id = tokens.read(_filter_bytes(request), request.page_token)
    return float(rank), int(successes), str(knowledge_id)


def knowledge_token(
    request: pb.SearchKnowledgeRequest, position: tuple[float, int, str] | None, tokens: PageTokens
) -> str:
    """Return the token of the page behind `position`; empty behind the last."""
    if position is None:
        return ""
    rank, successes, knowledge_id = position
    return tokens.make(_filter_bytes(request), [repr(rank), successes, knowledge_id])


def effect(request: pb.RetrySideEffectRequest) -> Effect:
    """Read the effect that a RetrySideEffect names."""
    return _EFFECT_OF[request.effect]


def effects(request: pb.ListSideEffectsRequest) -> Sequence[Effect]:
    """Read the effects that a ListSideEffects asks for."""
    return [_EFFECT_OF[number] for number in request.effects]


def side_effect_states(request: pb.ListSideEffectsRequest) -> Sequence[SideEffectState]:
    """Read the states that a ListSideEffects asks for."""
    return [_SIDE_EFFECT_STATE_OF[number] for number in request.states]


def side_effects_position(request: pb.ListSideEffectsRequest, tokens: PageTokens) -> int | None:
    """Read the sequence number that a ListSideEffects goes on before; None for the first page.

    Raises InvalidPageTokenError.
    """
    if not request.page_token:
        return None
    (before,) = tokens.read(_filter_bytes(request), request.page_token)
    return int(before)


def side_effects_token(request: pb.ListSideEffectsRequest, before: int | None, tokens: PageTokens) -> str:
    """Return the token of the page of side effects older than `before`; empty behind the last."""
    return "" if before is None else tokens.make(_filter_bytes(request), [before])


def incident_filter(request: pb.ListRequest) -> IncidentFilter:
    """Read a List's filters and order."""
    return IncidentFilter(
        states=tuple(_STATE_OF[state] for state in request.states),
        severities=tuple(_SEVERITY_OF[severity] for severity in request.severities),
        fingerprint=request.fingerprint,
        labels=dict(request.labels),
        create_time_start=_optional_time(request, "create_time_start"),
        create_time_end=_optional_time(request, "create_time_end"),
        resolve_time_start=_optional_time(request, "resolve_time_start"),
        resolve_time_end=_optional_time(request, "resolve_time_end"),
        stuck=request.stuck,
        order=_ORDER_OF.get(request.order, Order.CREATE_TIME_DESC),
    )


def event_types(request: pb.ListEventsRequest) -> Sequence[EventType]:
    """Read the types that a ListEvents asks for."""
    return [_EVENT_TYPE_OF[event_type] for event_type in request.types]


def page_size(asked: int) -> int:
    """Return how many items a page has: 50 when 0 was asked for, at most 1000."""
    return min(asked or _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)


def list_position(request: pb.ListRequest, tokens: PageTokens) -> tuple[datetime, str] | None:
    """Read where a List goes on; None for the first page. Raises InvalidPageTokenError."""
    if not request.page_token:
        return None
    micros, incident_id = tokens.read(_filter_bytes(request), request.page_token)
    return _EPOCH + timedelta(microseconds=int(micros)), str(incident_id)


def list_token(request: pb.ListRequest, position: tuple[datetime, str] | None, tokens: PageTokens) -> str:
    """Return the token of the page behind `position`; empty behind the last."""
    if position is None:
        return ""
    time, incident_id = position
    return tokens.make(_filter_bytes(request), [(time - _EPOCH) // timedelta(microseconds=1), incident_id])


def events_position(request: pb.ListEventsRequest, tokens: PageTokens) -> int:
    """Read the sequence number that a ListEvents goes on behind; 0 for the first page.

    Raises InvalidPageTokenError.
    """
    if not request.page_token:
        return 0
    (sequence,) = tokens.read(_filter_bytes(request), request.page_token)
    return int(sequence)


def events_token(request: pb.ListEventsRequest, sequence: int | None, tokens: PageTokens) -> str:
    """Return the token of the page behind `sequence`; empty behind the last."""
    return "" if sequence is None else tokens.make(_filter_bytes(request), [sequence])


def _filter_bytes(
    request: pb.ListRequest | pb.ListEventsRequest | pb.ListSideEffectsRequest | pb.SearchKnowledgeRequest,
) -> bytes:
    """What a page token is bound to: the request without its page fields."""
    bound = type(request).FromString(request.SerializeToString())
    bound.ClearField("page_size")
    bound.ClearField("page_token")
    return type(request).__name__.encode() + b"\0" + bound.SerializeToString(deterministic=True)


def _optional(time: datetime | None) -> Timestamp | None:
    return None if time is None else to_timestamp(time)


def _optional_time(request: pb.ListRequest | pb.AddEventRequest, field: str) -> datetime | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # one of the four names above
        return None
    try:
        return from_timestamp(getattr(request, field))
    except ValueError as exc:
        raise invalid_argument(FieldViolation(field, str(exc))) from None
