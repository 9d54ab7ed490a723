"""Watch between the contract and the model."""

from functools import lru_cache

from approval.lifecycle.mapping import approval_to_proto
from approval.model import Approval
from approval.watch.changes import Change, WatchFilter
from approval.wire_enums import STATES
from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from servicekit.rpc.timestamps import to_timestamp
from servicekit.watch.model import Step

# All watchers get a change at about the same time: its messages are built for the first and copied for the others.
_BUILT_CHANGES = 64


def watch_filter(request: pb.WatchRequest) -> WatchFilter:
    """Read the criteria of a Watch."""
    return WatchFilter(
        states=tuple(STATES.all_from_wire(request.states)),
        incident_id=request.incident_id,
        approval_id=request.approval_id,
    )


def watch_response(step: Step[Change, Approval]) -> pb.WatchResponse:
    """Return the message of a step."""
    if step.change is not None:
        approval, change = _change_to_proto(step.change)
        return pb.WatchResponse(approval=approval, change=change, resume_token=step.resume_token)
    existing = None if step.existing is None else approval_to_proto(step.existing)
    return pb.WatchResponse(approval=existing, resume_token=step.resume_token)


@lru_cache(maxsize=_BUILT_CHANGES)
def _change_to_proto(change: Change) -> tuple[approval_pb2.Approval, approval_pb2.ApprovalChange]:
    return approval_to_proto(change.approval), approval_pb2.ApprovalChange(
        change_id=change.change_id,
        state_before=approval_pb2.Approval.STATE_UNSPECIFIED
        if change.state_before is None
        else STATES.to_wire(change.state_before),
        state_after=STATES.to_wire(change.state_after),
        change_time=to_timestamp(change.change_time),
    )
