"""A name with several addresses, as a headless Service has one for each replica: all are called, also those that come later."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest

import awoooi.client
from awoooi.incident.v1 import incident_service_pb2_grpc
from servicekit.rpc.channel import open_channel
from servicekit.rpc.server_limits import ServerLimits
from tests.dns_server import dns_name
from tests.servicekit.scripted_server import SERVICE, VALID, Running, scripted_server

ADDRESSES = ["127.0.0.1", "127.0.0.2"]
Open = Callable[[str], grpc.aio.Channel]


def of_a_service(target: str) -> grpc.aio.Channel:
    return open_channel(target, [SERVICE])


@asynccontextmanager
async def replicas(limits: ServerLimits) -> AsyncIterator[list[Running]]:
    """A server on each of the addresses, all with the same port."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(scripted_server(limits=limits))
        port = first.server.address.rpartition(":")[2]
        rest = [
            await stack.enter_async_context(scripted_server(limits=limits, address=f"{address}:{port}"))
            for address in ADDRESSES[1:]
        ]
        for running in (first, *rest):
            await running.server.set_serving(True)
        yield [first, *rest]


@pytest.mark.parametrize("opened", [of_a_service, awoooi.client.open_channel])
async def test_all_addresses_of_a_name_are_called_in_turn(opened: Open) -> None:
    async with replicas(ServerLimits()) as running, dns_name(*ADDRESSES) as name:
        port = int(running[0].server.address.rpartition(":")[2])
        async with opened(name.target(port)) as channel, asyncio.timeout(60):
            stub: Any = incident_service_pb2_grpc.IncidentServiceStub(channel)
            while not all(each.service.calls for each in running):
                await stub.Get(VALID, timeout=30, wait_for_ready=True)


@pytest.mark.parametrize("opened", [of_a_service, awoooi.client.open_channel])
async def test_a_replica_that_comes_later_is_found_when_connections_have_an_age(opened: Open) -> None:
    limits = ServerLimits(connection_age=timedelta(milliseconds=200))
    async with replicas(limits) as running, dns_name(ADDRESSES[0]) as name:
        first, later = running
        port = int(first.server.address.rpartition(":")[2])
        async with opened(name.target(port)) as channel, asyncio.timeout(60):
            stub: Any = incident_service_pb2_grpc.IncidentServiceStub(channel)
            await stub.Get(VALID, timeout=30, wait_for_ready=True)
            assert (first.service.calls, later.service.calls) == (1, 0)
            name.addresses.append(ADDRESSES[1])
            # No call fails while connections end and new ones begin.
            while not later.service.calls:
                await stub.Get(VALID, timeout=30)
                await asyncio.sleep(0.01)
