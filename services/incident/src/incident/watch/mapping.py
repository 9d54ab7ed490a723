"""Between Watch's messages and the model, resume tokens included."""

from functools import lru_cache

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.lifecycle.mapping import event_to_proto, incident_to_proto
from incident.model import Severity, State
from incident.watch.model import Change, MakeToken, Position, Snapshot, Step, WatchFilter
from servicekit.rpc.interceptors.validation import invalid_argument
from servicekit.rpc.page_tokens import InvalidPageTokenError, PageTokens
from servicekit.rpc.status import FieldViolation

# Two snapshots of this size fit into the 4096 characters of a token.
_MOST_SNAPSHOT_CHARACTERS = 1_400
# Watchers are sent a change one soon after the other: its messages are built for the first and copied for the others.
_BUILT_CHANGES = 64


def watch_filter(request: pb.WatchRequest) -> WatchFilter:
    """Read a Watch's filters."""
    return WatchFilter(
        states=tuple(
            State(incident_pb2.Incident.State.Name(state).removeprefix("STATE_")) for state in request.states
        ),
        severities=tuple(
            Severity(incident_pb2.Severity.Name(severity).removeprefix("SEVERITY_"))
            for severity in request.severities
        ),
        fingerprint=request.fingerprint,
        labels=dict(request.labels),
        incident_id=request.incident_id,
    )


def resume_position(request: pb.WatchRequest, tokens: PageTokens) -> Position | None:
    """Read where a Watch goes on; None for a new one. Raises the error that answers INVALID_ARGUMENT."""
    if not request.resume_token:
        return None
    try:
        since, until, sequence = tokens.read(_bound(request), request.resume_token)
    except InvalidPageTokenError:
        raise invalid_argument(
            FieldViolation("resume_token", "was not given by this service for this request")
        ) from None
    return Position(_read_snapshot(str(since)), _read_snapshot(str(until)), int(sequence))


def make_token(request: pb.WatchRequest, tokens: PageTokens) -> MakeToken:
    """Return what writes the tokens of this Watch."""
    bound = _bound(request)
    return lambda position: tokens.make(
        bound, [_write_snapshot(position.since), _write_snapshot(position.until), position.sequence]
    )


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
    """What a resume token is bound to: the filters."""
    bound = pb.WatchRequest.FromString(request.SerializeToString())
    bound.ClearField("include_existing")
    bound.ClearField("resume_token")
    return b"WatchRequest\0" + bound.SerializeToString(deterministic=True)


def _write_snapshot(snapshot: Snapshot) -> str:
    """Write a snapshot shorter than PostgreSQL does: what follows `xmin` is counted from it."""
    xmin = snapshot.xmin
    offsets = ",".join(str(xid - xmin) for xid in snapshot.in_progress)
    written = f"{xmin}:{snapshot.xmax - xmin}:{offsets}"
    if len(written) > _MOST_SNAPSHOT_CHARACTERS:
        # Hundreds of transactions at once. An older snapshot serves as well: some changes come twice.
        return f"{xmin}:0:"
    return written


def _read_snapshot(written: str) -> Snapshot:
    xmin, width, offsets = written.split(":")
    return Snapshot(
        int(xmin),
        int(xmin) + int(width),
        tuple(int(xmin) + int(offset) for offset in offsets.split(",") if offset),
    )
