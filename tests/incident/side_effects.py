"""Side effects as callers see them, and a service that is connected to external systems."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents, incidents_at
from tests.eventually import eventually
from tests.receiver import Received, Receiver, receiver
from tests.services import RunningService, healthy_service

SideEffect = incident_pb2.SideEffect
Number: TypeAlias = incident_pb2.SideEffect.Effect.ValueType
POSTMORTEM = SideEffect.EFFECT_POSTMORTEM
KNOWLEDGE = SideEffect.EFFECT_KNOWLEDGE
DISPOSITION = SideEffect.EFFECT_DISPOSITION
NOTIFICATION = SideEffect.EFFECT_NOTIFICATION
WEBHOOK = SideEffect.EFFECT_WEBHOOK
EFFECTS = (POSTMORTEM, KNOWLEDGE, DISPOSITION, NOTIFICATION, WEBHOOK)

_SECRET = "known-to-the-receiver-only"


async def side_effects(
    incidents: Incidents, incident_id: str, *, number: int = 1
) -> Mapping[Number, incident_pb2.SideEffect]:
    """The side effects of one RESOLVED transition."""
    answer = await incidents.list_side_effects(incident_id=incident_id).page()
    mine = [found for found in answer.side_effects if found.resolution_number == number]
    by_effect = {found.effect: found for found in mine}
    assert len(by_effect) == len(mine), "an effect comes twice"
    return by_effect


async def ended(
    incidents: Incidents, incident_id: str, *, number: int = 1
) -> Mapping[Number, incident_pb2.SideEffect]:
    """The side effects of one RESOLVED transition, as soon as none is PENDING any more."""
    return await eventually(
        lambda: side_effects(incidents, incident_id, number=number),
        lambda found: all(each.state != SideEffect.STATE_PENDING for each in found.values()),
    )


async def side_effect(
    incidents: Incidents, incident_id: str, effect: Number, state: str, *, number: int = 1
) -> incident_pb2.SideEffect:
    """A side effect as soon as it is in a state, such as `PARKED`."""
    wanted = SideEffect.State.Value(f"STATE_{state}")
    found = await eventually(
        lambda: side_effects(incidents, incident_id, number=number),
        lambda effects: effects[effect].state == wanted,
    )
    return found[effect]


@dataclass(frozen=True)
class ConnectedService:
    """A service, its webhook receiver and its notification receiver."""

    service: RunningService
    incidents: Incidents
    webhook: Receiver
    people: Receiver

    def posts(self, incident_id: str) -> list[Received]:
        """The requests of the webhook about an incident."""
        return [each for each in self.webhook.requests if each.content["incident_id"] == incident_id]

    def messages(self, title: str) -> list[Received]:
        """The notifications about incidents of this title."""
        return [each for each in self.people.requests if each.content["title"] == f"Resolved: {title}"]


@asynccontextmanager
async def connected_service(
    database_url: str, variables: Mapping[str, str] | None = None
) -> AsyncIterator[ConnectedService]:
    """A healthy service over the database, with a webhook and a notification URL."""
    async with (
        receiver() as webhook,
        receiver() as people,
        healthy_service(
            "incident", database_url, variables={**_variables(webhook, people), **(variables or {})}
        ) as service,
        incidents_at(service.address) as incidents,
    ):
        yield ConnectedService(service, incidents, webhook, people)


def _variables(webhook: Receiver, people: Receiver) -> Mapping[str, str]:
    return {
        "INCIDENT_WEBHOOK_URL": webhook.url("/hook"),
        "INCIDENT_WEBHOOK_SECRET": _SECRET,
        "INCIDENT_NOTIFY_URLS": f"json://127.0.0.1:{people.port}/",
    }
