"""Side effects that an external system has refused."""

from typing import TYPE_CHECKING

from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.incident.incidents import (
    resolved,
)
from tests.incident.side_effects import (
    WEBHOOK,
    ConnectedService,
    Number,
    SideEffect,
    ended,
)
from tests.receiver import status

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Stub = IncidentServiceAsyncStub


REFUSAL = "the receiver answered 400"


async def parked(connected: ConnectedService) -> SideEffect:
    """The dead letter of a resolution whose webhook was refused; its other effects are DONE."""
    connected.webhook.answers.append(status(400))
    incident = await resolved(connected.stub)
    found = await ended(connected.stub, incident.incident_id)
    assert found[WEBHOOK].state == SideEffect.STATE_PARKED
    return found[WEBHOOK]


def retry(incident_id: str, effect: Number = WEBHOOK, number: int = 0) -> pb.RetrySideEffectRequest:
    return pb.RetrySideEffectRequest(incident_id=incident_id, effect=effect, resolution_number=number)
