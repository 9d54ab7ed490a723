"""A service with a webhook and two notification URLs, and the requests that its receivers got."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents, incidents_at
from tests.eventually import eventually
from tests.incident.incidents import HUMAN
from tests.receiver import Received, Receiver
from tests.services import RunningService, healthy_service

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

SECRET = "sesame-open-yourself"
POSTMORTEM = incident_pb2.SideEffect.EFFECT_POSTMORTEM
NOTIFICATION = incident_pb2.SideEffect.EFFECT_NOTIFICATION
WEBHOOK = incident_pb2.SideEffect.EFFECT_WEBHOOK


@dataclass(frozen=True)
class DeliveringService:
    """A service and its three receivers."""

    service: RunningService
    incidents: Incidents
    rows: "Connection"
    webhook: Receiver
    people: Receiver
    others: Receiver

    async def resolved(
        self, *, resolution_type: incident_pb2.ResolutionType.ValueType = HUMAN, **fields: Any
    ) -> incident_pb2.Incident:
        """Open an incident and resolve it."""
        incident = await self.incidents.opened(**fields)
        return await self.resolve(incident.incident_id, resolution_type)

    async def resolve(
        self, incident_id: str, resolution_type: incident_pb2.ResolutionType.ValueType = HUMAN
    ) -> incident_pb2.Incident:
        return (
            await self.incidents.resolve(incident_id, resolution_type=resolution_type, note="observed")
        ).incident

    async def effect(
        self,
        incident_id: str,
        effect: incident_pb2.SideEffect.Effect.ValueType,
        state: str,
        *,
        number: int = 1,
    ) -> incident_pb2.SideEffect:
        """Return a side effect as soon as it is in a state."""
        request: dict[str, Any] = {"incident_id": incident_id, "effects": [effect]}

        async def find() -> incident_pb2.SideEffect:
            found = (await self.incidents.list_side_effects(**request).page()).side_effects
            return next(each for each in found if each.resolution_number == number)

        wanted = incident_pb2.SideEffect.State.Value(f"STATE_{state}")
        return await eventually(find, lambda found: found.state == wanted)

    async def events(self, incident_id: str, event_type: str, effect: str) -> list[str]:
        """The summaries of an incident's events of a type about an effect."""
        wanted = incident_pb2.IncidentEvent.Type.Value(f"TYPE_{event_type}")
        answer = await self.incidents.list_events(incident_id, types=[wanted]).page()
        return [event.summary for event in answer.events if event.attributes["effect"] == effect]

    async def posts(self, incident_id: str) -> list[Received]:
        """The requests of the webhook about an incident."""
        return [each for each in self.webhook.requests if each.content["incident_id"] == incident_id]

    def messages(self, to: Receiver, title: str) -> list[str]:
        """The notifications of a receiver with a title."""
        return [
            each.content["message"] for each in to.requests if each.content["title"] == f"Resolved: {title}"
        ]


def settings(webhook: Receiver, people: Receiver, others: Receiver) -> Mapping[str, str]:
    return {
        "INCIDENT_WEBHOOK_URL": webhook.url(f"/{SECRET}"),
        "INCIDENT_WEBHOOK_SECRET": SECRET,
        "INCIDENT_NOTIFY_URLS": ", ".join(f"json://127.0.0.1:{to.port}/{SECRET}/" for to in (people, others)),
        "INCIDENT_NOTIFY_SKIP": "DUPLICATE",
        "INCIDENT_POSTMORTEM_SKIP": "DUPLICATE",
        "INCIDENT_LOG_LEVEL": "DEBUG",
    }


@asynccontextmanager
async def delivering_service(
    database: str, *receivers: Receiver, **variables: str
) -> AsyncIterator[DeliveringService]:
    """A healthy service over the database, with a webhook and two notification URLs."""
    webhook, people, others = receivers
    environment = dict(settings(webhook, people, others)) | variables
    async with (
        healthy_service("incident", database, variables=environment) as service,
        incidents_at(service.address) as incidents,
    ):
        rows = await asyncpg.connect(database)
        try:
            yield DeliveringService(service, incidents, rows, webhook, people, others)
        finally:
            await rows.close()
