"""Drain: a stopping server finishes its calls, ends its streams, and then its background work."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2

from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub
from servicekit.process.background import BackgroundEndedError, run_until_stopped
from servicekit.rpc.server_limits import ServerLimits
from tests.eventually import eventually
from tests.servicekit.scripted_server import VALID, Held, scripted_server


async def test_a_stopping_server_finishes_what_it_began() -> None:
    async with scripted_server() as running:
        held = running.service.answer = Held()
        call = asyncio.ensure_future(running.stub.Get(VALID))
        await held.began.wait()
        stopping = asyncio.create_task(running.server.stop())
        async with grpc.aio.insecure_channel(running.server.address) as late:

            async def refused_with() -> grpc.StatusCode | None:
                try:
                    await IncidentServiceStub(late).Get(VALID, timeout=10)
                except grpc.aio.AioRpcError as exc:
                    return exc.code()
                return None

            # The server takes no new calls, with this one still in hand.
            await eventually(refused_with, lambda code: code is grpc.StatusCode.UNAVAILABLE)
        held.may_end.set()
        assert await call == pb.GetResponse()
        await stopping


async def test_callers_of_a_stopping_server_get_a_response_or_unavailable() -> None:
    """UNAVAILABLE is the one code that channels try again on another server."""
    for _ in range(5):
        async with scripted_server() as running:
            codes: list[grpc.StatusCode] = []
            answered = asyncio.Event()

            async def caller(address: str, codes: list[grpc.StatusCode], answered: asyncio.Event) -> None:
                async with grpc.aio.insecure_channel(address) as channel:
                    stub = IncidentServiceStub(channel)
                    try:
                        while True:
                            await asyncio.gather(*(stub.Get(VALID, timeout=30) for _ in range(5)))
                            answered.set()
                    except grpc.aio.AioRpcError as exc:
                        codes.append(exc.code())

            async with asyncio.TaskGroup() as callers:
                for _ in range(4):
                    callers.create_task(caller(running.server.address, codes, answered))
                await answered.wait()
                await running.server.stop()
            assert set(codes) == {grpc.StatusCode.UNAVAILABLE}


async def test_a_call_that_does_not_finish_is_ended_at_the_drain_time() -> None:
    async with scripted_server(limits=ServerLimits(drain=timedelta(milliseconds=100))) as running:
        held = running.service.answer = Held()
        call = asyncio.ensure_future(running.stub.Get(VALID))
        await held.began.wait()
        async with asyncio.timeout(10):
            await running.server.stop()
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def test_an_open_health_watch_gets_not_serving_and_ends_at_drain() -> None:
    async with scripted_server() as running:
        await running.server.set_serving(True)
        stub: Any = HealthStub(running.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(5):
            await running.server.stop()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_an_open_reflection_stream_is_ended_at_drain(version: str) -> None:
    async with scripted_server() as running:
        stream = running.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services="*"))
        assert await stream.read()
        async with asyncio.timeout(5):
            await running.server.stop()
        assert await stream.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_whose_background_work_ends_stops_and_says_which() -> None:
    async def ends() -> None:
        raise ValueError("why")

    async def goes_on() -> None:
        await asyncio.Event().wait()

    async with scripted_server() as running:
        with pytest.raises(BackgroundEndedError, match=r"^outbox$") as caught:
            async with asyncio.timeout(20):
                await run_until_stopped(
                    running.server.stop, asyncio.Event(), background={"outbox": ends(), "health": goes_on()}
                )
    assert isinstance(caught.value.__cause__, ValueError)


async def test_background_work_ends_after_the_last_call() -> None:
    order: list[str] = []
    held = Held()

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("background")

    async with scripted_server() as running:
        running.service.answer = held
        stop = asyncio.Event()
        until = asyncio.create_task(
            run_until_stopped(running.server.stop, stop, background={"b": background()})
        )
        call = asyncio.ensure_future(running.stub.Get(VALID))
        call.add_done_callback(lambda _call: order.append("call"))
        await held.began.wait()
        stop.set()
        await asyncio.sleep(0)
        held.may_end.set()
        await call
        await until
    assert order == ["call", "background"]
