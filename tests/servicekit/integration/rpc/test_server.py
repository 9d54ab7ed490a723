"""The server builder: health, reflection, addresses, draining; and the channels that lead to it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client import CollectorRegistry

from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub
from servicekit.healthcheck import is_serving
from servicekit.process.addresses import ExposedWithoutAuthenticationError, is_loopback
from servicekit.process.background import BackgroundEndedError, run_until_stopped
from servicekit.rpc.channel import open_channel
from servicekit.rpc.server import AddressInUseError, watch_health
from servicekit.rpc.server_builder import ServerBuilder
from servicekit.rpc.server_limits import ServerLimits
from servicekit.rpc.status_codes import ErrorTable
from tests.eventually import eventually
from tests.rpc_errors import refused
from tests.servicekit.scripted_server import SERVICE, VALID, Held, Running, scripted_server
from tests.services import serving

BUF = Path(sys.executable).with_name("buf")
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


async def test_the_container_health_check_tells_the_same_past_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with scripted_server() as running:
        assert not await asyncio.to_thread(is_serving, running.server.address)
        await running.server.set_serving(True)
        assert await asyncio.to_thread(is_serving, running.server.address)
    assert not await asyncio.to_thread(is_serving, running.server.address)


async def reflected(channel: grpc.aio.Channel, version: str, request: Any) -> Any:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(iter([request]))
    return await anext(aiter(call))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_and_describes_the_services(version: str) -> None:
    async with scripted_server() as running:
        listing = await reflected(
            running.channel, version, reflection_pb2.ServerReflectionRequest(list_services="*")
        )
        assert {service.name for service in listing.list_services_response.service} == {
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        described = await reflected(
            running.channel, version, reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
        )
        assert described.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_finds_methods_by_name(version: str) -> None:
    async def found(symbol: str) -> Any:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
        return await reflected(running.channel, version, request)

    async with scripted_server() as running:
        for method in (
            f"{SERVICE}.Get",
            "grpc.health.v1.Health.Watch",
            f"grpc.reflection.{version}.ServerReflection.ServerReflectionInfo",
        ):
            service = (await found(method.rpartition(".")[0])).file_descriptor_response
            assert service.file_descriptor_proto
            answer = await found(method)
            assert answer.file_descriptor_response == service
            assert answer.original_request.file_containing_symbol == method
        missing = await found(f"{SERVICE}.NoSuchMethod")
        assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_can_be_switched_off(version: str) -> None:
    async with scripted_server(reflection=False) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reflected(
                running.channel, version, reflection_pb2.ServerReflectionRequest(list_services="*")
            )
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("protocol", ["grpc-v1", "grpc-v1alpha"])
async def test_buf_curl_calls_by_reflection_alone(protocol: str, tmp_path: Path) -> None:
    async with scripted_server() as running:
        process = await asyncio.create_subprocess_exec(
            BUF,
            "curl",
            "--protocol=grpc",
            "--http2-prior-knowledge",
            f"--reflect-protocol={protocol}",
            "--data",
            json.dumps({"incidentId": VALID.incident_id}),
            f"http://{running.server.address}/{SERVICE}/Get",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert json.loads(out) == {}
        assert running.service.calls == 1


async def test_a_second_server_on_the_same_port_is_refused() -> None:
    async with scripted_server() as running:
        with pytest.raises(AddressInUseError):
            async with scripted_server(address=running.server.address):
                pass
        assert await running.stub.Get(VALID) == pb.GetResponse()


def test_a_server_beyond_loopback_is_refused_without_the_setting() -> None:
    with pytest.raises(ExposedWithoutAuthenticationError):
        ServerBuilder("0.0.0.0:0", errors=ErrorTable({}), registry=CollectorRegistry(), roles={})


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:0", True),
        ("127.9.9.9:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.168.0.1:1", False),
        ("example.org:1", False),
        ("localhost.example.org:1", False),
        ("127.0.0.1.example.org:1", False),
    ],
)
def test_which_addresses_are_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


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
        assert (await watch.read()).status == SERVING
        async with asyncio.timeout(5):
            await running.server.stop()
        assert (await watch.read()).status == NOT_SERVING
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


async def test_requests_are_validated_before_anything_else_reads_them() -> None:
    async with scripted_server() as running:
        refusal = await refused(running.stub.Get(pb.GetRequest()))
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert running.service.calls == 0
