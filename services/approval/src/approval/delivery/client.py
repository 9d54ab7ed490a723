"""Calls to the incident service."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import grpc.aio
import structlog

from approval.delivery.model import (
    ComparedApproval,
    FoundIncident,
    IncidentCheck,
    LookedUp,
    ResolutionType,
    ResolveIntent,
    TimelineEntry,
)
from approval.model import OWN_ACTOR, Severity
from awoooi import client
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.outbox.delivery_outcome import RpcFailedError, delivery_error
from servicekit.rpc.mapping import optional_timestamp

_log = structlog.get_logger()

SERVICE = pb.DESCRIPTOR.services_by_name["IncidentService"].full_name
# This service's name on a server without authentication.
# A newer incident service may have others; they are not known here.
_SEVERITIES = {incident_pb2.Severity.Value(f"SEVERITY_{severity}"): severity for severity in Severity}

# A message of the incident service has at most 1 MiB; some is left for what gRPC adds.
_MAX_BATCH_BYTES = 1_000_000
# The tag and the length before an item.
_ITEM_OVERHEAD_BYTES = 8


class IncidentClient:
    """The incident service as this service uses it, over one channel.

    The channel retries UNAVAILABLE a few times at once, and the outbox retries deliveries with its own backoff: a client
    that retried as well would multiply their attempts, and hold a delivery's place meanwhile.
    """

    def __init__(
        self, channel: grpc.aio.Channel, *, check_timeout: timedelta, resolve_timeout: timedelta
    ) -> None:
        self._incidents = client.IncidentClient(channel, actor=OWN_ACTOR, retry=client.NO_RETRIES)
        self._check_seconds = check_timeout.total_seconds()
        self._resolve_seconds = resolve_timeout.total_seconds()

    async def find(self, incident_id: str) -> FoundIncident:
        """Return what the incident service knows about an incident; every failure but NOT_FOUND is UNREACHABLE."""
        try:
            incident = await self._incidents.get(incident_id, timeout=self._check_seconds)
        except client.NotFoundError:
            return FoundIncident(IncidentCheck.UNKNOWN)
        except client.CallError as exc:
            _log.warning("incident_check_failed", incident_id=incident_id, code=exc.code.name)
            return FoundIncident(IncidentCheck.UNREACHABLE)
        resolved = incident.state == incident_pb2.Incident.STATE_RESOLVED
        return FoundIncident(
            IncidentCheck.RESOLVED if resolved else IncidentCheck.UNRESOLVED,
            _SEVERITIES.get(incident.severity),
            incident.opening,
            fingerprint=incident.fingerprint,
            source=incident.source,
            labels=dict(incident.labels),
            reports=incident.occurrence_count,
            is_canary=incident.canary,
        )

    async def announce(self, entry: TimelineEntry, *, opening: int) -> IncidentCheck:
        """Record the start of an operation now; RESOLVED when this opening was over by then.

        Every failure but NOT_FOUND is UNREACHABLE.
        """
        try:
            event = await self._add_event_anyway(entry)
        except client.NotFoundError:
            return IncidentCheck.UNKNOWN
        except client.CallError as exc:
            _log.warning("operation_not_announced", incident_id=entry.incident_id, code=exc.code.name)
            return IncidentCheck.UNREACHABLE
        # Of an opening that is not over it is one less.
        is_over = event.resolution_number >= opening > 0
        return IncidentCheck.RESOLVED if is_over else IncidentCheck.UNRESOLVED

    async def look_up(self, approvals: Sequence[ComparedApproval]) -> Sequence[LookedUp] | None:
        """Return what is known of each approval's incident, in order; None when the incident service does not say.

        A version of it that cannot look incidents up does not say either.
        """
        items = [
            pb.LookupIncidentsRequest.Item(
                incident_id=each.incident_id,
                approval_id=each.approval_id,
                opening=each.opening,
                execute_time=optional_timestamp(each.execute_time),
            )
            for each in approvals
        ]
        try:
            results = await self._incidents.lookup_incidents(items, timeout=self._resolve_seconds)
        except client.CallError as exc:
            _log.warning("incident_lookup_failed", incidents=len(items), code=exc.code.name)
            return None
        if [result.incident_id for result in results] != [each.incident_id for each in approvals]:
            _log.warning("incident_lookup_failed", incidents=len(items), code="RESULTS_OF_OTHERS")
            return None
        return [
            LookedUp(result.state != incident_pb2.Incident.STATE_UNSPECIFIED, result.resolvable)
            for result in results
        ]

    async def resolve(self, resolves: Sequence[ResolveIntent]) -> Sequence[bool | Exception]:
        """Resolve incidents and return, in order, whether each was resolved already or the error of its delivery."""
        if len(resolves) == 1:
            return [await self._resolve_one(resolves[0])]
        items = [
            pb.BatchResolveRequest.Item(
                incident_id=each.incident_id,
                resolution_type=_number(each.resolution_type),
                approval_id=each.approval_id,
                action=each.action,
                opening=each.opening,
                execute_time=optional_timestamp(each.execute_time),
                approval_events=[_approval_event(entry) for entry in each.entries],
            )
            for each in resolves
        ]
        parts = await asyncio.gather(*(self._resolve_batch(part) for part in _within_limit(items)))
        return [outcome for part in parts for outcome in part]

    async def _resolve_batch(
        self, items: Sequence[pb.BatchResolveRequest.Item]
    ) -> Sequence[bool | Exception]:
        try:
            results = await self._incidents.batch_resolve(items, timeout=self._resolve_seconds)
        except client.CallError as exc:
            return [delivery_error(exc.code, exc.message)] * len(items)
        if len(results) != len(items):
            return [RpcFailedError("the response has another number of results")] * len(items)
        return [
            delivery_error(result.status.code, result.status.message)
            if result.HasField("status")
            else result.resolved.already_resolved
            for result in results
        ]

    async def add_event(self, entry: TimelineEntry) -> Exception | None:
        """Record an entry on an incident's timeline; return None, or the error of the delivery.

        An entry for an incident that does not exist, or that retention has removed, is logged and dropped: it has no
        timeline. Its resolve, if there is one, is parked, where an operator sees it.

        An entry whose id is taken by another event is recorded under an id of its own, the same on every attempt.
        """
        try:
            await self._add_event_anyway(entry)
        except client.NotFoundError:
            _log.warning("incident_event_dropped", incident_id=entry.incident_id, event_id=entry.event_id)
        except client.CallError as exc:
            return delivery_error(exc.code, exc.message)
        return None

    async def _add_event_anyway(self, entry: TimelineEntry) -> incident_pb2.IncidentEvent:
        """Record an entry; under another id if somebody took its own before such ids were reserved, or a database before a restore had it."""
        try:
            return await self._add_event(entry, entry.event_id)
        except client.AlreadyExistsError:
            _log.warning("incident_event_id_taken", incident_id=entry.incident_id, event_id=entry.event_id)
        return await self._add_event(entry, f"{entry.event_id}/{entry.digest()}")

    async def _add_event(self, entry: TimelineEntry, event_id: str) -> incident_pb2.IncidentEvent:
        return await self._incidents.add_event(
            entry.incident_id,
            event_id=event_id,
            type=incident_pb2.IncidentEvent.Type.Value(f"TYPE_{entry.event}"),
            event_time=entry.event_time,
            summary=entry.summary,
            attributes=entry.attributes,
            timeout=self._check_seconds,
        )

    async def _resolve_one(self, intent: ResolveIntent) -> bool | Exception:
        try:
            response = await self._incidents.resolve(
                intent.incident_id,
                resolution_type=_number(intent.resolution_type),
                approval_id=intent.approval_id,
                action=intent.action,
                opening=intent.opening,
                execute_time=intent.execute_time,
                approval_events=[_approval_event(entry) for entry in intent.entries],
                timeout=self._resolve_seconds,
            )
        except client.CallError as exc:
            return delivery_error(exc.code, exc.message)
        return response.already_resolved


def _number(kind: ResolutionType) -> incident_pb2.ResolutionType.ValueType:
    return incident_pb2.ResolutionType.Value(f"RESOLUTION_TYPE_{kind}")


def _approval_event(entry: TimelineEntry) -> pb.ApprovalEvent:
    return pb.ApprovalEvent(
        event_id=entry.event_id,
        type=incident_pb2.IncidentEvent.Type.Value(f"TYPE_{entry.event}"),
        event_time=optional_timestamp(entry.event_time),
        summary=entry.summary,
        attributes=entry.attributes,
    )


def _within_limit(
    items: Sequence[pb.BatchResolveRequest.Item],
) -> Sequence[Sequence[pb.BatchResolveRequest.Item]]:
    """Return the items in parts whose messages the incident service takes; one item alone is always small enough."""
    parts: list[list[pb.BatchResolveRequest.Item]] = []
    room = 0
    for item in items:
        size = item.ByteSize() + _ITEM_OVERHEAD_BYTES
        if size > room:
            parts.append([])
            room = _MAX_BATCH_BYTES
        parts[-1].append(item)
        room -= size
    return parts
