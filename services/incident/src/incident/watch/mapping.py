"""Watch between the contract and the model, resume tokens included."""

from datetime import datetime
from functools import lru_cache

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.lifecycle.mapping import event_to_proto, incident_to_proto
from incident.watch.epoch import FIRST_EPOCH
from incident.watch.model import (
    Change,
    MakeToken,
    Position,
    ResumePoint,
    Snapshot,
    Step,
    WatchFilter,
    Witness,
)
from incident.wire_enums import SEVERITIES, STATES
from servicekit.rpc.cursors import filter_bytes
from servicekit.rpc.interceptors.validation import invalid_argument
from servicekit.rpc.page_tokens import InvalidPageTokenError, PageTokens
from servicekit.rpc.status import FieldViolation

# Two snapshots of this size and the rest fit into the 4096 characters of a token.
_MAX_SNAPSHOT_CHARACTERS = 1_250
# Tells tokens apart that hold other things.
_FORM = b"epoch and witness"
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


def resume_point(request: pb.WatchRequest, tokens: PageTokens) -> ResumePoint | None:
    """Return what is in the resume token; None for a new stream. Raises the error that names the field."""
    if not request.resume_token:
        return None
    bound = _bound(request)
    try:
        try:
            since, until, sequence, epoch, *witness = tokens.read(bound + _FORM, request.resume_token)
        except InvalidPageTokenError:
            # Of versions without epochs.
            since, until, sequence = tokens.read(bound, request.resume_token)
            epoch, witness = FIRST_EPOCH, []
    except InvalidPageTokenError:
        raise invalid_argument(
            FieldViolation("resume_token", "was not given by this service for this request")
        ) from None
    return ResumePoint(
        Position(_read_snapshot(str(since)), _read_snapshot(str(until)), int(sequence)),
        str(epoch),
        _read_witness(*map(str, witness)) if witness else None,
    )


def make_token(request: pb.WatchRequest, tokens: PageTokens) -> MakeToken:
    """Return the function that writes the resume tokens of this stream."""
    # Versions without epochs do not know this form: they refuse it as they do a foreign token.
    bound = _bound(request) + _FORM

    def make(point: ResumePoint) -> str:
        position, witness = point.position, point.witness
        seen = (
            () if witness is None else (witness.event_id, witness.incident_id, witness.event_time.isoformat())
        )
        return tokens.make(
            bound,
            [
                _write_snapshot(position.since),
                _write_snapshot(position.until),
                position.sequence,
                point.epoch,
                *seen,
            ],
        )

    return make


def _read_witness(event_id: str, incident_id: str, event_time: str) -> Witness:
    return Witness(event_id, incident_id, datetime.fromisoformat(event_time))


def watch_response(step: Step) -> pb.WatchResponse:
    """Return the message of a step."""
    if step.change is not None:
        incident, event = _change_to_proto(step.change)
        return pb.WatchResponse(incident=incident, event=event, resume_token=step.resume_token)
    existing = None if step.existing is None else incident_to_proto(step.existing)
    return pb.WatchResponse(incident=existing, resume_token=step.resume_token)


@lru_cache(maxsize=_BUILT_CHANGES)
def _change_to_proto(change: Change) -> tuple[incident_pb2.Incident, incident_pb2.IncidentEvent]:
    return incident_to_proto(change.incident), event_to_proto(change.event)


def _bound(request: pb.WatchRequest) -> bytes:
    """Return what a resume token is bound to: the filter."""
    return filter_bytes(request, "include_existing", "resume_token")


def _write_snapshot(snapshot: Snapshot) -> str:
    """Write a snapshot, shorter than PostgreSQL does: the ids after `xmin` as offsets from it."""
    xmin = snapshot.xmin
    offsets = ",".join(str(xid - xmin) for xid in snapshot.in_progress)
    written = f"{xmin}:{snapshot.xmax - xmin}:{offsets}"
    if len(written) > _MAX_SNAPSHOT_CHARACTERS:
        # Hundreds of transactions in progress. An older snapshot is as good: some changes are delivered twice.
        return f"{xmin}:0:"
    return written


def _read_snapshot(written: str) -> Snapshot:
    xmin, width, offsets = written.split(":")
    return Snapshot(
        int(xmin),
        int(xmin) + int(width),
        tuple(int(xmin) + int(offset) for offset in offsets.split(",") if offset),
    )
