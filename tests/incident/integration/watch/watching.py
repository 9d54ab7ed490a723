"""Watchers of timelines, and a server that answers their Watch alone."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import add_IncidentServiceServicer_to_server
from incident.roles import ROLES
from incident.servicer import IncidentServicer
from incident.status_codes import ERRORS
from incident.watch.repository import IncidentChanges
from servicekit.rpc.page_tokens import PageTokens
from tests import watching as shared
from tests.callers import Incidents
from tests.watching import WatchedService, WatchServer

OWN_EFFECTS = ("EFFECT_DONE", "EFFECT_SKIPPED", "EFFECT_PARKED")


def _servicer(watch: Any, page_tokens: PageTokens) -> IncidentServicer:
    unused = cast("Any", None)
    return IncidentServicer(
        incidents=unused,
        resolve=unused,
        canaries=unused,
        side_effects=unused,
        dead_letters=unused,
        knowledge=unused,
        watch=watch,
        page_tokens=page_tokens,
        errors=ERRORS,
    )


_SERVICE = WatchedService(
    "awoooi.incident.v1.IncidentService",
    add_IncidentServiceServicer_to_server,
    _servicer,
    errors=ERRORS,
    roles=ROLES,
)


def watch_server(database_url: str, **limits: Any) -> AbstractAsyncContextManager[WatchServer]:
    """A real server over the database, in this process, that only watches; others write."""
    return shared.watch_server(database_url, IncidentChanges(), _SERVICE, **limits)


def type_name(event: incident_pb2.IncidentEvent) -> str:
    """An event's type as the contract names it, without the prefix."""
    return incident_pb2.IncidentEvent.Type.Name(event.type).removeprefix("TYPE_")


class Watcher(shared.Watcher[pb.WatchResponse]):
    """A stream and its responses so far."""

    async def until_event(self, event_id: str) -> Sequence[str]:
        """Read up to and with the event of this id; returns the ids of all events that came over the stream."""
        while (await self.change()).event.event_id != event_id:
            pass
        return [response.event.event_id for response in self.changes]


async def watching(incidents: Incidents, **fields: Any) -> Watcher:
    """A stream with these fields that has begun: its first response, which carries a token, was read."""
    watcher = Watcher(incidents.watch(heartbeats=True, **fields), content="event")
    await watcher.begin()
    return watcher


async def note(incidents: Incidents, incident_id: str, event_id: str, *, summary: str = "seen") -> None:
    """Add a NOTE to an incident's timeline."""
    await incidents.add_event(
        incident_id, event_id=event_id, type=incident_pb2.IncidentEvent.TYPE_NOTE, summary=summary
    )


async def act(incidents: Incidents, what: str, incident_id: str) -> None:
    """Bring an incident into another state: `start`, `resolve` or `reopen`."""
    match what:
        case "start":
            await incidents.start_investigation(incident_id)
        case "resolve":
            await incidents.resolve(incident_id, resolution_type=incident_pb2.RESOLUTION_TYPE_NO_ACTION)
        case "reopen":
            await incidents.reopen(incident_id, reason="back again")
        case _:
            raise ValueError(what)
