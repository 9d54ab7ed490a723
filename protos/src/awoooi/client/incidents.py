"""The incident service. Every RPC is a method of the same name; the contract has the semantics of each."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Unpack

from awoooi.client.after_resolution import AfterResolutionMethods
from awoooi.client.aio import AsyncClient
from awoooi.client.call import Call, Listing, Stream
from awoooi.client.methods import ListMethod, UnaryMethod, WatchMethod
from awoooi.client.options import CallOptions
from awoooi.client.sync import SyncClient
from awoooi.client.values import (
    EventType,
    IncidentOrder,
    IncidentState,
    ResolutionType,
    Severity,
    Time,
    enum_value,
    enum_values,
    new_id,
    timestamp,
)
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["IncidentService"].full_name

_EMPTY: Mapping[str, str] = {}


class IncidentMethods(AfterResolutionMethods):
    """What both clients can do. Every call is safe to retry: the contract makes it idempotent."""

    @UnaryMethod
    def create(
        self,
        *,
        title: str,
        severity: Severity,
        description: str = "",
        fingerprint: str = "",
        labels: Mapping[str, str] = _EMPTY,
        source: str = "",
        incident_id: str = "",
        request_id: str = "",
        **options: Unpack[CallOptions],
    ) -> Call[pb.CreateResponse]:
        """Open an incident, or count one more occurrence of the unresolved one with the same fingerprint.

        Idempotent by `request_id`; a new one is made when none is given.
        """
        request = pb.CreateRequest(
            incident_id=incident_id,
            title=title,
            description=description,
            severity=enum_value(incident_pb2.Severity, "SEVERITY_", severity),
            fingerprint=fingerprint,
            labels=labels,
            source=source,
            request_id=request_id or new_id(),
        )
        return Call(f"{SERVICE}/Create", request, pb.CreateResponse.FromString, options)

    @UnaryMethod
    def get(self, incident_id: str, **options: Unpack[CallOptions]) -> Call[incident_pb2.Incident]:
        """Return one incident as last committed."""
        request = pb.GetRequest(incident_id=incident_id)
        return Call(
            f"{SERVICE}/Get", request, lambda response: pb.GetResponse.FromString(response).incident, options
        )

    @ListMethod
    def list(
        self,
        *,
        states: Iterable[IncidentState] = (),
        severities: Iterable[Severity] = (),
        fingerprint: str = "",
        labels: Mapping[str, str] = _EMPTY,
        create_time_start: Time | None = None,
        create_time_end: Time | None = None,
        resolve_time_start: Time | None = None,
        resolve_time_end: Time | None = None,
        stuck: bool = False,
        order: IncidentOrder = pb.ListRequest.ORDER_UNSPECIFIED,
        page_size: int = 0,
        page_token: str = "",
        **options: Unpack[CallOptions],
    ) -> Listing[pb.ListResponse, incident_pb2.Incident]:
        """Return the incidents that match every given filter, newest first by default."""
        request = pb.ListRequest(
            states=enum_values(incident_pb2.Incident.State, "STATE_", states),
            severities=enum_values(incident_pb2.Severity, "SEVERITY_", severities),
            fingerprint=fingerprint,
            labels=labels,
            create_time_start=timestamp(create_time_start),
            create_time_end=timestamp(create_time_end),
            resolve_time_start=timestamp(resolve_time_start),
            resolve_time_end=timestamp(resolve_time_end),
            stuck=stuck,
            order=enum_value(pb.ListRequest.Order, "ORDER_", order),
            page_size=page_size,
            page_token=page_token,
        )
        return Listing(
            f"{SERVICE}/List", request, pb.ListResponse.FromString, lambda page: page.incidents, options
        )

    @UnaryMethod
    def start_investigation(
        self, incident_id: str, *, etag: str = "", **options: Unpack[CallOptions]
    ) -> Call[incident_pb2.Incident]:
        """Bring an OPEN incident to INVESTIGATING. Idempotent: one that is INVESTIGATING stays as it is."""
        request = pb.StartInvestigationRequest(incident_id=incident_id, etag=etag)
        return Call(
            f"{SERVICE}/StartInvestigation",
            request,
            lambda response: pb.StartInvestigationResponse.FromString(response).incident,
            options,
        )

    @UnaryMethod
    def resolve(
        self,
        incident_id: str,
        *,
        resolution_type: ResolutionType,
        note: str = "",
        etag: str = "",
        approval_id: str = "",
        action: str = "",
        opening: int = 0,
        execute_time: Time | None = None,
        approval_events: Iterable[pb.ApprovalEvent] = (),
        **options: Unpack[CallOptions],
    ) -> Call[pb.ResolveResponse]:
        """Bring an unresolved incident to RESOLVED. Idempotent: a RESOLVED one comes back with `already_resolved`.

        So does one that was reopened since, when `opening` names the opening that the call is for.
        """
        request = pb.ResolveRequest(
            incident_id=incident_id,
            resolution_type=enum_value(incident_pb2.ResolutionType, "RESOLUTION_TYPE_", resolution_type),
            note=note,
            etag=etag,
            approval_id=approval_id,
            action=action,
            opening=opening,
            execute_time=timestamp(execute_time),
            approval_events=approval_events,
        )
        return Call(f"{SERVICE}/Resolve", request, pb.ResolveResponse.FromString, options)

    @UnaryMethod
    def batch_resolve(
        self, items: Iterable[pb.BatchResolveRequest.Item], **options: Unpack[CallOptions]
    ) -> Call[Sequence[pb.BatchResolveResponse.Result]]:
        """Resolve up to 1000 incidents and return one result per item, in order. Idempotent as `resolve`.

        An item that failed has a `status`; `error_from_status` makes a CallError of it.
        """
        request = pb.BatchResolveRequest(items=items)
        return Call(
            f"{SERVICE}/BatchResolve",
            request,
            lambda response: pb.BatchResolveResponse.FromString(response).results,
            options,
        )

    @UnaryMethod
    def lookup_incidents(
        self, items: Iterable[pb.LookupIncidentsRequest.Item], **options: Unpack[CallOptions]
    ) -> Call[Sequence[pb.LookupIncidentsResponse.Result]]:
        """Look up to 1000 incidents up and return one result per item, in order. An unknown one has no state."""
        request = pb.LookupIncidentsRequest(items=items)
        return Call(
            f"{SERVICE}/LookupIncidents",
            request,
            lambda response: pb.LookupIncidentsResponse.FromString(response).results,
            options,
        )

    @UnaryMethod
    def reopen(
        self,
        incident_id: str,
        *,
        reason: str,
        etag: str = "",
        request_id: str = "",
        **options: Unpack[CallOptions],
    ) -> Call[incident_pb2.Incident]:
        """Bring a RESOLVED incident back to OPEN. Idempotent by `request_id`; a new one is made when none is given."""
        request = pb.ReopenRequest(
            incident_id=incident_id, reason=reason, etag=etag, request_id=request_id or new_id()
        )
        return Call(
            f"{SERVICE}/Reopen",
            request,
            lambda response: pb.ReopenResponse.FromString(response).incident,
            options,
        )

    @UnaryMethod
    def remove_canary(self, incident_id: str, **options: Unpack[CallOptions]) -> Call[bool]:
        """Remove a RESOLVED canary incident; False when it was removed before. Idempotent."""
        request = pb.RemoveCanaryRequest(incident_id=incident_id)
        return Call(
            f"{SERVICE}/RemoveCanary",
            request,
            lambda response: pb.RemoveCanaryResponse.FromString(response).removed,
            options,
        )

    @ListMethod
    def list_events(
        self,
        incident_id: str,
        *,
        types: Iterable[EventType] = (),
        page_size: int = 0,
        page_token: str = "",
        **options: Unpack[CallOptions],
    ) -> Listing[pb.ListEventsResponse, incident_pb2.IncidentEvent]:
        """Return an incident's timeline, oldest event first."""
        request = pb.ListEventsRequest(
            incident_id=incident_id,
            types=enum_values(incident_pb2.IncidentEvent.Type, "TYPE_", types),
            page_size=page_size,
            page_token=page_token,
        )
        return Listing(
            f"{SERVICE}/ListEvents",
            request,
            pb.ListEventsResponse.FromString,
            lambda page: page.events,
            options,
        )

    @UnaryMethod
    def add_event(
        self,
        incident_id: str,
        *,
        type: EventType,  # noqa: A002 - the contract's name
        summary: str = "",
        attributes: Mapping[str, str] = _EMPTY,
        event_time: Time | None = None,
        event_id: str = "",
        **options: Unpack[CallOptions],
    ) -> Call[incident_pb2.IncidentEvent]:
        """Append an event to an incident's timeline. Idempotent by `event_id`; a new one is made when none is given."""
        request = pb.AddEventRequest(
            event_id=event_id or new_id(),
            incident_id=incident_id,
            type=enum_value(incident_pb2.IncidentEvent.Type, "TYPE_", type),
            event_time=timestamp(event_time),
            summary=summary,
            attributes=attributes,
        )
        return Call(
            f"{SERVICE}/AddEvent",
            request,
            lambda response: pb.AddEventResponse.FromString(response).event,
            options,
        )

    @WatchMethod
    def watch(
        self,
        *,
        states: Iterable[IncidentState] = (),
        severities: Iterable[Severity] = (),
        fingerprint: str = "",
        labels: Mapping[str, str] = _EMPTY,
        incident_id: str = "",
        include_existing: bool = False,
        resume_token: str = "",
        heartbeats: bool = False,
        **options: Unpack[CallOptions],
    ) -> Stream[pb.WatchResponse]:
        """Return the changes of the incidents that match the filters, as they are committed, until it is closed.

        After UNAVAILABLE it goes on where it was: no change is left out, and one may come twice, with the same
        `event.event_id`. Only while existing incidents are sent there is no such place; UnavailableError is raised then, and the
        next iteration begins anew. `heartbeats` yields the responses without a change as well: the first one marks
        the beginning of the stream.
        """
        request = pb.WatchRequest(
            states=enum_values(incident_pb2.Incident.State, "STATE_", states),
            severities=enum_values(incident_pb2.Severity, "SEVERITY_", severities),
            fingerprint=fingerprint,
            labels=labels,
            incident_id=incident_id,
            include_existing=include_existing,
            resume_token=resume_token,
        )
        return Stream(
            f"{SERVICE}/Watch",
            request,
            pb.WatchResponse.FromString,
            is_heartbeat=lambda response: not response.HasField("incident"),
            heartbeats=heartbeats,
            options=options,
        )


class IncidentClient(IncidentMethods, AsyncClient):
    """The incident service, async."""


class SyncIncidentClient(IncidentMethods, SyncClient):
    """The incident service, sync."""
