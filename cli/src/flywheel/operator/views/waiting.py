"""Deliveries of the approval service and side effects of the incident service: what is done in the background."""

from typing import Final

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from flywheel.operator.output.cells import age, clock, enum_name, line, time
from flywheel.operator.output.view import Column, View

_Delivery = approval_pb2.Delivery
_SideEffect = incident_pb2.SideEffect


def delivery_state(number: int) -> str:
    """Return a state of a delivery."""
    return enum_name(_Delivery.State, "STATE_", number)


def topic(number: int) -> str:
    """Return what a delivery delivers."""
    return enum_name(_Delivery.Topic, "TOPIC_", number)


def effect_state(number: int) -> str:
    """Return a state of a side effect."""
    return enum_name(_SideEffect.State, "STATE_", number)


def effect(number: int) -> str:
    """Return a kind of side effect; of a job of another version there is none."""
    return enum_name(_SideEffect.Effect, "EFFECT_", number) or "OTHER"


def _dismissal(job: _Delivery | _SideEffect) -> str:
    if not job.HasField("dismissal"):
        return ""
    made = job.dismissal
    return f"{clock(made.dismiss_time)} by {line(made.actor)}: {line(made.reason)}"


DELIVERY: Final = View[_Delivery](
    "deliveries",
    columns=[
        Column("ID", lambda each: each.delivery_id),
        Column("TOPIC", lambda each: topic(each.topic)),
        Column("APPROVAL", lambda each: each.approval_id),
        Column("INCIDENT", lambda each: each.incident_id),
        Column("STATE", lambda each: delivery_state(each.state)),
        Column("AGE", lambda each: age(each, "create_time")),
        Column("ATTEMPTS", lambda each: str(each.attempts)),
        Column("NEXT", lambda each: time(each, "next_attempt_time"), wide=True),
        Column("DONE", lambda each: time(each, "done_time"), wide=True),
        Column("RE-QUEUED BY", lambda each: each.requeued_by, wide=True),
        Column("DISMISSED", _dismissal, wide=True),
        Column("LAST ERROR", lambda each: each.last_error),
    ],
)

EFFECT: Final = View[_SideEffect](
    "side effects",
    columns=[
        Column("ID", lambda each: each.delivery_id),
        Column("EFFECT", lambda each: effect(each.effect)),
        Column("INCIDENT", lambda each: each.incident_id),
        Column("STATE", lambda each: effect_state(each.state)),
        Column("AGE", lambda each: age(each, "create_time")),
        Column("ATTEMPTS", lambda each: str(each.attempts)),
        Column("RESOLUTION", lambda each: str(each.resolution_number), wide=True),
        Column("NEXT", lambda each: time(each, "next_attempt_time"), wide=True),
        Column("DONE", lambda each: time(each, "done_time"), wide=True),
        Column("RE-QUEUED BY", lambda each: each.requeued_by, wide=True),
        Column("DISMISSED", _dismissal, wide=True),
        Column("LAST ERROR", lambda each: each.last_error or each.skip_reason),
    ],
)
