"""Side effects that an external system has refused."""

from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents
from tests.incident.side_effects import (
    WEBHOOK,
    ConnectedService,
    Number,
    SideEffect,
    ended,
)
from tests.receiver import status

REFUSAL = "the receiver answered 400"


async def parked(connected: ConnectedService) -> SideEffect:
    """The dead letter of a resolution whose webhook was refused; its other effects are DONE."""
    connected.webhook.answers.append(status(400))
    incident = await connected.incidents.resolved()
    found = await ended(connected.incidents, incident.incident_id)
    assert found[WEBHOOK].state == SideEffect.STATE_PARKED
    return found[WEBHOOK]


async def retry(
    incidents: Incidents, incident_id: str, effect: Number = WEBHOOK, number: int = 0
) -> incident_pb2.SideEffect:
    return await incidents.retry_side_effect(incident_id, effect=effect, resolution_number=number)
