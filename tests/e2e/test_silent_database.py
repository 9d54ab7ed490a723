"""The database's host vanishes: open connections stay silent, new ones work. The service recovers without a restart."""

import asyncio
import signal
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import grpc
import grpc.aio
import pytest_asyncio

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub
from tests.databases import cloned_database, postgres_socket, url_through
from tests.eventually import eventually
from tests.migrated import migrate_incident
from tests.services import TIMEOUT_SECONDS, RunningService, healthy_service
from tests.tcp_proxy import TcpProxy, tcp_proxy

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

INCIDENTS = 20


@pytest_asyncio.fixture
async def network() -> AsyncIterator[TcpProxy]:
    async with tcp_proxy(postgres_socket()) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def database() -> AsyncIterator[str]:
    async with cloned_database("incident", migrate_incident) as url:
        yield url


@pytest_asyncio.fixture
async def service(database: str, network: TcpProxy) -> AsyncIterator[RunningService]:
    async with healthy_service("incident", url_through(network.address, database)) as running:
        yield running


@pytest_asyncio.fixture
async def stub(service: RunningService) -> "AsyncIterator[IncidentServiceAsyncStub]":
    async with grpc.aio.insecure_channel(service.address) as channel:
        yield IncidentServiceStub(channel)


_PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


async def _created(stub: "IncidentServiceAsyncStub") -> str:
    request = pb.CreateRequest(title="disk full", severity=incident_pb2.SEVERITY_HIGH)
    return (await stub.Create(request, timeout=TIMEOUT_SECONDS)).incident.incident_id


async def _resolve(stub: "IncidentServiceAsyncStub", incident_id: str) -> bool:
    """Whether one try, as patient as callers are, resolved the incident."""
    request = pb.ResolveRequest(
        incident_id=incident_id, resolution_type=incident_pb2.RESOLUTION_TYPE_NO_ACTION
    )
    try:
        await stub.Resolve(request, timeout=2)
    except grpc.aio.AioRpcError as exc:
        if exc.code() not in _PASSING:
            raise
        return False
    return True


async def test_concurrent_resolves_watchers_and_effects_recover_from_silent_connections(
    service: RunningService, stub: "IncidentServiceAsyncStub", network: TcpProxy, database: str
) -> None:
    ids = [await _created(stub) for _ in range(INCIDENTS)]
    watch = stub.Watch(pb.WatchRequest(include_existing=False))
    await watch.initial_metadata()
    # Many connections are in use when they go silent, the group commit's among them.
    first = asyncio.gather(*(_resolve(stub, each) for each in ids[: INCIDENTS // 2]))
    await asyncio.sleep(0)
    network.silence()
    await first
    await asyncio.gather(*(eventually(partial(_resolve, stub, each)) for each in ids))
    seen: set[str] = set()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        async for response in watch:
            if response.event.type == incident_pb2.IncidentEvent.TYPE_RESOLVED:
                seen.add(response.event.incident_id)
            if seen.issuperset(ids):
                break
    watch.cancel()
    await service.healthy()
    rows = await asyncpg.connect(database)
    try:
        await eventually(
            lambda: rows.fetchval("SELECT count(*) FROM postmortems"), lambda count: count == INCIDENTS
        )
        assert await rows.fetchval("SELECT count(*) FROM outbox WHERE state IN ('PENDING', 'PARKED')") == 0
    finally:
        await rows.close()


async def test_health_says_that_connections_are_silent(service: RunningService, network: TcpProxy) -> None:
    network.silence()
    await service.logged("health_changed", serving=False)
    await service.healthy()


async def test_sigterm_ends_a_service_whose_connections_are_silent(
    service: RunningService, stub: "IncidentServiceAsyncStub", network: TcpProxy
) -> None:
    ids = [await _created(stub) for _ in range(INCIDENTS)]
    network.silence()
    calls = asyncio.gather(*(_resolve(stub, each) for each in ids))
    service.send(signal.SIGTERM)
    await calls
    assert await service.ended() == 0
