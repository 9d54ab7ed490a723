"""Many watchers of a service that is killed now and then."""

import asyncio
from collections.abc import Sequence

from awoooi.client import IncidentClient
from awoooi.incident.v1 import incident_pb2
from tests.services import TIMEOUT_SECONDS


class Audience:
    """Watches a service, each watcher up to one last event."""

    def __init__(self, address: str, *, last_event: str) -> None:
        self._address = address
        self.last_event = last_event
        self._there = asyncio.Semaphore(0)
        self._seen: set[str] = set()
        self._progress = asyncio.Condition()

    async def all_there(self, number: int) -> None:
        """Return when so many watchers have begun."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for _ in range(number):
                await self._there.acquire()

    async def has_seen(self, number: int) -> None:
        """Return when so many events were seen by any of them."""
        async with self._progress, asyncio.timeout(TIMEOUT_SECONDS):
            await self._progress.wait_for(lambda: len(self._seen) >= number)

    async def watch(self) -> Sequence[incident_pb2.IncidentEvent]:
        """Every event that came, up to the last."""
        events: list[incident_pb2.IncidentEvent] = []
        async with (
            IncidentClient(self._address, timeout=TIMEOUT_SECONDS) as incidents,
            incidents.watch(heartbeats=True) as responses,
        ):
            # The first response says that the stream has begun.
            await anext(responses)
            self._there.release()
            async for response in responses:
                if response.HasField("event"):
                    events.append(response.event)
                    await self._saw(response.event)
                    if response.event.event_id == self.last_event:
                        break
        return events

    async def _saw(self, event: incident_pb2.IncidentEvent) -> None:
        async with self._progress:
            self._seen.add(event.event_id)
            self._progress.notify_all()
