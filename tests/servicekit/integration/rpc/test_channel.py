"""Channels: retries, load balancing and reconnecting."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub
from servicekit.rpc.channel import open_channel
from tests.eventually import eventually
from tests.servicekit.scripted_server import SERVICE, VALID, Running, scripted_server


def refuse(code: grpc.StatusCode, times: int, running: Running) -> Callable[[Any, Any], Awaitable[Any]]:
    """An answer that fails so many times before it works."""

    async def answer(_request: Any, context: Any) -> pb.GetResponse:
        if running.service.calls <= times:
            await context.abort(code, "not now")
        return pb.GetResponse()

    return answer


async def test_a_channel_tries_again_what_was_unavailable() -> None:
    async with scripted_server() as running, open_channel(running.server.address, [SERVICE]) as channel:
        await running.server.set_serving(True)
        running.service.answer = refuse(grpc.StatusCode.UNAVAILABLE, 2, running)
        await IncidentServiceStub(channel).Get(VALID, timeout=30)
        assert running.service.calls == 3


async def test_a_channel_gives_up_after_its_attempts() -> None:
    async with scripted_server() as running, open_channel(running.server.address, [SERVICE]) as channel:
        await running.server.set_serving(True)
        running.service.answer = refuse(grpc.StatusCode.UNAVAILABLE, 99, running)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await IncidentServiceStub(channel).Get(VALID, timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert running.service.calls == 3


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code.name not in ("OK", "UNAVAILABLE")], ids=lambda c: c.name
)
async def test_a_channel_tries_nothing_else_again(code: grpc.StatusCode) -> None:
    async with scripted_server() as running, open_channel(running.server.address, [SERVICE]) as channel:
        await running.server.set_serving(True)
        running.service.answer = refuse(code, 99, running)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await IncidentServiceStub(channel).Get(VALID, timeout=30)
        assert caught.value.code() is code
        assert running.service.calls == 1


async def test_a_channel_spreads_calls_over_the_servers_that_serve() -> None:
    async with scripted_server() as one, scripted_server() as two, scripted_server() as sick:
        for running in (one, two):
            await running.server.set_serving(True)
        target = "ipv4:" + ",".join(running.server.address for running in (one, two, sick))
        async with open_channel(target, [SERVICE]) as channel:
            stub = IncidentServiceStub(channel)

            async def both_called() -> bool:
                await stub.Get(VALID, timeout=30)
                return bool(one.service.calls and two.service.calls)

            await eventually(both_called)
            before = one.service.calls, two.service.calls
            for _ in range(20):
                await stub.Get(VALID, timeout=30)
            assert (one.service.calls - before[0], two.service.calls - before[1]) == (10, 10)
            assert sick.service.calls == 0


async def test_a_channel_comes_back_soon_after_its_server() -> None:
    async with scripted_server() as running:
        address = running.server.address
        await running.server.set_serving(True)
        async with open_channel(address, [SERVICE]) as channel:
            stub = IncidentServiceStub(channel)
            await stub.Get(VALID, timeout=30)
            await running.server.stop()
            outcomes = await asyncio.gather(stub.Get(VALID, timeout=30), return_exceptions=True)
            assert isinstance(outcomes[0], grpc.aio.AioRpcError)
            async with scripted_server(address=address) as again:
                await again.server.set_serving(True)
                codes: set[grpc.StatusCode | None] = set()

                async def answers() -> bool:
                    (outcome,) = await asyncio.gather(stub.Get(VALID, timeout=30), return_exceptions=True)
                    codes.add(outcome.code() if isinstance(outcome, grpc.aio.AioRpcError) else None)
                    return None in codes

                await eventually(answers)
                assert codes <= {grpc.StatusCode.UNAVAILABLE, None}
