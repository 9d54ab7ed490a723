"""Watchers, and a server that has small limits and answers Watch alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

from prometheus_client import CollectorRegistry

from awoooi.client.watching import AsyncWatch
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import add_IncidentServiceServicer_to_server
from incident.roles import ROLES
from incident.servicer import IncidentServicer
from incident.status_codes import ERRORS
from incident.watch.changes import Change
from incident.watch.repository import IncidentChanges
from servicekit.database.engine import create_engine
from servicekit.database.keys import get_key
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.server import ServerBuilder
from servicekit.watch.epoch import Epochs
from servicekit.watch.feed import MAX_CHANGES, Feed
from servicekit.watch.tailer import BACKPRESSURE_TIMEOUT, Tailer
from servicekit.watch.use_cases import HEARTBEAT, WatchUseCase
from tests.callers import Incidents
from tests.services import TIMEOUT_SECONDS

OWN_EFFECTS = ("EFFECT_DONE", "EFFECT_SKIPPED", "EFFECT_PARKED")


@dataclass(frozen=True)
class WatchServer:
    """Its address, the feed of its watchers, and the event that stops it as SIGTERM does."""

    address: str
    feed: Feed[Change]
    stop: asyncio.Event


@asynccontextmanager
async def watch_server(
    database_url: str,
    *,
    heartbeat: timedelta = HEARTBEAT,
    max_watchers: int = 100,
    max_changes: int = MAX_CHANGES,
    backpressure_timeout: timedelta = BACKPRESSURE_TIMEOUT,
) -> AsyncIterator[WatchServer]:
    """A real server over the database, in this process, that only watches; others write."""
    engine = create_engine(database_url, application_name="tests-watch", pool_size=5)
    page_tokens = PageTokens()
    async with engine.connect() as connection:
        page_tokens.key = await get_key(connection, "page_tokens")
    transactions = Transactions(engine, Outbox())
    source = IncidentChanges()
    feed: Feed[Change] = Feed(max_watchers=max_watchers, max_changes=max_changes)
    epochs = Epochs(transactions, source.table)
    servicer = IncidentServicer(
        incidents=cast("Any", None),
        resolve=cast("Any", None),
        side_effects=cast("Any", None),
        knowledge=cast("Any", None),
        watch=WatchUseCase(transactions, source, feed, epochs, heartbeat=heartbeat),
        page_tokens=page_tokens,
        errors=ERRORS,
    )
    server = (
        ServerBuilder(
            "127.0.0.1:0",
            errors=ERRORS,
            registry=CollectorRegistry(),
            roles=ROLES,
            reflection_enabled=False,
        )
        .add(add_IncidentServiceServicer_to_server, servicer, "awoooi.incident.v1.IncidentService")
        .build()
    )
    stop = asyncio.Event()
    await server.start()
    tailer = Tailer(transactions, source, feed, epochs, backpressure_timeout=backpressure_timeout)
    tailing = asyncio.create_task(tailer.run(stop))
    try:
        yield WatchServer(server.address, feed, stop)
    finally:
        stop.set()
        await server.stop()
        tailing.cancel()
        await asyncio.gather(tailing, return_exceptions=True)
        await engine.dispose()


def type_name(event: incident_pb2.IncidentEvent) -> str:
    """An event's type as the contract names it, without the prefix."""
    return incident_pb2.IncidentEvent.Type.Name(event.type).removeprefix("TYPE_")


@dataclass
class Watcher:
    """A stream and its responses so far."""

    stream: AsyncWatch[pb.WatchResponse]
    responses: list[pb.WatchResponse] = field(default_factory=list)

    @property
    def token(self) -> str:
        """The latest resume token."""
        return self.responses[-1].resume_token

    @property
    def changes(self) -> Sequence[pb.WatchResponse]:
        """The responses with an event."""
        return [response for response in self.responses if response.HasField("event")]

    async def read(self) -> pb.WatchResponse:
        """The next response. Raises the error that the stream ends with."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            response = await anext(self.stream)
        self.responses.append(response)
        return response

    async def change(self) -> pb.WatchResponse:
        """The next response that has an event."""
        while not (response := await self.read()).HasField("event"):
            pass
        return response

    async def until_event(self, event_id: str) -> Sequence[str]:
        """Read up to and with the event of this id; returns the ids of all events that came over the stream."""
        while (await self.change()).event.event_id != event_id:
            pass
        return [response.event.event_id for response in self.changes]


async def watching(incidents: Incidents, **fields: Any) -> Watcher:
    """A stream with these fields that has begun: its first response, which carries a token, was read."""
    watcher = Watcher(incidents.watch(heartbeats=True, **fields))
    while not (await watcher.read()).resume_token:
        pass
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
