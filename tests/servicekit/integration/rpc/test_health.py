"""Health: SERVING when it is set so, or when what is ready says so; and the container's check."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from servicekit.healthcheck import is_serving
from servicekit.rpc.server import watch_health
from tests.eventually import eventually
from tests.servicekit.scripted_server import SERVICE, scripted_server
from tests.services import serving

SERVING = health_pb2.HealthCheckResponse.SERVING


NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(channel: grpc.aio.Channel, name: str = "") -> int:
    stub: Any = HealthStub(channel)  # the type stubs know no method of it
    response = await stub.Check(health_pb2.HealthCheckRequest(service=name))
    status: int = response.status
    return status


@pytest.mark.parametrize("name", ["", SERVICE])
async def test_a_server_is_not_serving_until_it_is_set_so(name: str) -> None:
    async with scripted_server() as running:
        assert await health(running.channel, name) == NOT_SERVING
        await running.server.set_serving(True)
        assert await health(running.channel, name) == SERVING
        await running.server.set_serving(False)
        assert await health(running.channel, name) == NOT_SERVING


async def test_the_health_of_a_service_that_is_not_here_is_not_known() -> None:
    async with scripted_server() as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(running.channel, "no.such.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_follows_what_is_ready() -> None:
    ready = False
    failing = False

    async def question() -> bool:
        if failing:
            raise OSError("database away")
        return ready

    async with scripted_server() as running:
        watching = asyncio.create_task(
            watch_health(running.server, question, every=timedelta(milliseconds=10))
        )
        try:
            assert await health(running.channel) == NOT_SERVING
            ready = True
            await serving(running.channel)
            failing = True
            await eventually(lambda: health(running.channel), lambda status: status == NOT_SERVING)
            failing = False
            await serving(running.channel)
        finally:
            watching.cancel()


async def test_a_check_that_hangs_means_not_serving() -> None:
    async def hang() -> bool:
        await asyncio.Event().wait()
        return True

    async with scripted_server() as running:
        await running.server.set_serving(True)
        watching = asyncio.create_task(watch_health(running.server, hang, every=timedelta(milliseconds=10)))
        await eventually(lambda: health(running.channel), lambda status: status == NOT_SERVING)
        watching.cancel()


async def test_the_container_health_check_returns_the_same_past_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with scripted_server() as running:
        assert not await asyncio.to_thread(is_serving, running.server.address)
        await running.server.set_serving(True)
        assert await asyncio.to_thread(is_serving, running.server.address)
    assert not await asyncio.to_thread(is_serving, running.server.address)
