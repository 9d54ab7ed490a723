"""Many watchers of a service that is killed now and then."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import grpc.aio
from grpc import StatusCode

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.incident.incidents import incident_stub
from tests.services import PATIENCE_SECONDS, RunningService

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

T = TypeVar("T")


class KilledService:
    """A service that is killed and started again, and where it is now."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._service: RunningService | None = None
        self._here = asyncio.Condition()

    async def start(self) -> None:
        """Start it, anew when it was killed."""
        started = await asyncio.to_thread(RunningService, "incident", self._database_url)
        await started.healthy()
        async with self._here:
            self._service = started
            self._here.notify_all()

    async def kill(self) -> None:
        """Kill -9."""
        if self._service is not None:
            killed, self._service = self._service, None
            await asyncio.to_thread(killed.kill)

    async def address(self) -> str:
        """Where it listens, as soon as it does."""
        async with self._here, asyncio.timeout(PATIENCE_SECONDS):
            await self._here.wait_for(lambda: self._service is not None)
            assert self._service is not None
            return self._service.address

    async def answer(
        self, calls: "Callable[[IncidentServiceAsyncStub, str], Awaitable[T]]", argument: str
    ) -> T:
        """The result of the calls, retried until the service is available."""
        while True:
            async with incident_stub(await self.address()) as stub:
                try:
                    return await calls(stub, argument)
                except grpc.aio.AioRpcError as error:
                    _check_unavailable(error)


class Audience:
    """Watches a service, each watcher over as many streams as it takes, up to one last event."""

    def __init__(self, service: KilledService, *, last_event: str) -> None:
        self._service = service
        self.last_event = last_event
        # How many streams each watcher needed.
        self.streams: list[int] = []
        self._there = asyncio.Semaphore(0)
        self._seen: set[str] = set()
        self._progress = asyncio.Condition()

    async def all_there(self, number: int) -> None:
        """Return when so many watchers have begun."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(number):
                await self._there.acquire()

    async def has_seen(self, number: int) -> None:
        """Return when so many events were seen by any of them."""
        async with self._progress, asyncio.timeout(PATIENCE_SECONDS):
            await self._progress.wait_for(lambda: len(self._seen) >= number)

    async def watch(self) -> Sequence[incident_pb2.IncidentEvent]:
        """Every event that came, up to the last."""
        events: list[incident_pb2.IncidentEvent] = []
        resume_token = ""
        for stream in itertools.count(1):
            async with incident_stub(await self._service.address()) as stub:
                try:
                    async for response in stub.Watch(pb.WatchRequest(resume_token=resume_token)):
                        if not resume_token:
                            self._there.release()
                        resume_token = response.resume_token
                        if response.HasField("event"):
                            events.append(response.event)
                            await self._saw(response.event)
                            if response.event.event_id == self.last_event:
                                self.streams.append(stream)
                                return events
                except grpc.aio.AioRpcError as error:
                    _check_unavailable(error)
        raise AssertionError("the count ended")

    async def _saw(self, event: incident_pb2.IncidentEvent) -> None:
        async with self._progress:
            self._seen.add(event.event_id)
            self._progress.notify_all()


def _check_unavailable(error: grpc.aio.AioRpcError) -> None:
    if error.code() is not StatusCode.UNAVAILABLE:
        raise error
