"""Side effects and postmortems between the contract and the model."""

from collections.abc import Sequence

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.effects.model import (
    DeliveryId,
    EffectOfResolution,
    Postmortem,
    SideEffect,
    SideEffectDismissal,
    SideEffectName,
    SideEffectState,
)
from incident.wire_enums import EFFECTS, RESOLUTION_TYPES
from servicekit.rpc.mapping import WireEnum, optional_timestamp
from servicekit.rpc.timestamps import to_timestamp

SIDE_EFFECT_STATES = WireEnum(SideEffectState, "STATE", incident_pb2.SideEffect.State.Value)
_DEFAULT_RETRY_LIMIT = 100


def side_effect_to_proto(side_effect: SideEffect) -> incident_pb2.SideEffect:
    """Return the message of a side effect."""
    skipped = side_effect.state is SideEffectState.SKIPPED
    pending = side_effect.state is SideEffectState.PENDING
    return incident_pb2.SideEffect(
        incident_id=side_effect.incident_id,
        effect=incident_pb2.SideEffect.EFFECT_UNSPECIFIED
        if side_effect.effect is None
        else EFFECTS.to_wire(side_effect.effect),
        resolution_number=side_effect.resolution_number,
        state=SIDE_EFFECT_STATES.to_wire(side_effect.state),
        attempts=side_effect.attempts,
        last_error="" if skipped else side_effect.last_error,
        skip_reason=side_effect.last_error if skipped else "",
        create_time=to_timestamp(side_effect.create_time),
        next_attempt_time=to_timestamp(side_effect.next_attempt_time) if pending else None,
        done_time=optional_timestamp(side_effect.done_time),
        delivery_id=side_effect.delivery_id,
        requeued_by=side_effect.requeued_by,
        dismissal=None if side_effect.dismissal is None else _dismissal(side_effect.dismissal),
    )


def _dismissal(dismissal: SideEffectDismissal) -> incident_pb2.SideEffect.Dismissal:
    return incident_pb2.SideEffect.Dismissal(
        actor=dismissal.actor, reason=dismissal.reason, dismiss_time=to_timestamp(dismissal.dismiss_time)
    )


def side_effect_name(request: pb.RetrySideEffectRequest | pb.DismissSideEffectRequest) -> SideEffectName:
    """Read which side effect is meant."""
    if request.delivery_id:
        return DeliveryId(request.delivery_id)
    return EffectOfResolution(
        request.incident_id, EFFECTS.from_wire(request.effect), request.resolution_number
    )


def retry_limit(request: pb.RetrySideEffectsRequest) -> int:
    """Read the limit of a RetrySideEffects."""
    return request.limit or _DEFAULT_RETRY_LIMIT


def retry_response(side_effects: Sequence[SideEffect], *, limit: int) -> pb.RetrySideEffectsResponse:
    """Return the response of a RetrySideEffects."""
    return pb.RetrySideEffectsResponse(
        side_effects=[side_effect_to_proto(each) for each in side_effects],
        has_more=len(side_effects) == limit,
    )


def postmortem_to_proto(postmortem: Postmortem) -> incident_pb2.Postmortem:
    """Return the message of a postmortem."""
    return incident_pb2.Postmortem(
        incident_id=postmortem.incident_id,
        resolution_number=postmortem.resolution_number,
        resolution_type=RESOLUTION_TYPES.to_wire(postmortem.resolution_type),
        markdown=postmortem.markdown,
        create_time=to_timestamp(postmortem.create_time),
    )
