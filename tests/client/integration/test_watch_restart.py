"""Watch while the service is stopped, killed and started again elsewhere: nothing is lost, nothing comes twice."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from awoooi.client import IncidentClient
from tests.approval.schemas import incident_database
from tests.client.either_kind import Kind, WatchDriver, incident_client
from tests.services import TIMEOUT_SECONDS, RunningService, healthy_service
from tests.tcp_proxy import TcpProxy, tcp_proxy

NOTES = 5


async def test_nothing_is_lost_or_repeated_over_restarts(kind: Kind) -> None:
    last = secrets.token_hex(4)
    async with (
        incident_database() as url,
        tcp_proxy() as proxy,
        incident_client(kind, proxy.address, timeout=TIMEOUT_SECONDS) as incidents,
    ):
        async with _service_behind(proxy, url) as service:
            incident_id = await _opened(service)
            watch = incidents.watch(incident_id=incident_id, heartbeats=True)
            await watch.next()  # the stream has begun
            watching = asyncio.create_task(_events(watch, until=last))
            written = await _noted(service, incident_id)
            service.send(signal.SIGTERM)
            await service.ended()
        async with _service_behind(proxy, url) as service:
            written += await _noted(service, incident_id)
            service.kill()
        async with _service_behind(proxy, url) as service:
            written += await _noted(service, incident_id, last)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                assert await watching == written
        watch.close()


@asynccontextmanager
async def _service_behind(proxy: TcpProxy, database_url: str) -> AsyncIterator[RunningService]:
    async with healthy_service("incident", database_url) as service:
        proxy.target = service.address
        yield service


async def _opened(service: RunningService) -> str:
    async with IncidentClient(service.address) as writer:
        return (await writer.create(title="watched", severity="HIGH")).incident.incident_id


async def _noted(service: RunningService, incident_id: str, *event_ids: str) -> list[str]:
    """Add notes, the last ones with these ids; returns the ids of all."""
    async with IncidentClient(service.address) as writer:
        return [
            (await writer.add_event(incident_id, type="NOTE", summary="seen", event_id=event_id)).event_id
            for event_id in [*[""] * NOTES, *event_ids]
        ]


async def _events(watch: WatchDriver, *, until: str) -> Sequence[str]:
    came: list[str] = []
    while until not in came:
        response: Any = await watch.next()
        if response.HasField("event"):
            came.append(response.event.event_id)
    return came
