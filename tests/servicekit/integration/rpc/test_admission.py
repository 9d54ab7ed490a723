"""Open calls are bounded, and those that wait for their request keep no other out: neither callers nor health checks."""

import asyncio
import resource
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.process.descriptors import usable_connections
from servicekit.rpc.admission import PlaceLimits
from servicekit.rpc.server_limits import ServerLimits
from tests.eventually import eventually
from tests.rpc_errors import refused
from tests.servicekit.scripted_server import VALID, Held, Running, scripted_server
from tests.services import TIMEOUT_SECONDS

GET = "/awoooi.incident.v1.IncidentService/Get"
FOUR = PlaceLimits(4, per_peer=4)


def without_request(running: Running) -> Any:
    """Begin a Get whose request does not come. To the server it is the same call as from a stub."""
    return running.channel.stream_unary(GET, response_deserializer=pb.GetResponse.FromString)()


async def served(running: Running) -> None:
    """A call and a health check are answered."""
    assert await running.stub.Get(VALID, timeout=TIMEOUT_SECONDS) == pb.GetResponse()
    stub: Any = HealthStub(running.channel)
    await stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)


def refusals(running: Running) -> dict[str, float]:
    """The calls that limits refused, without zeros."""
    return {
        sample.labels["limit"]: sample.value
        for metric in running.registry.collect()
        for sample in metric.samples
        if sample.name == "grpc_server_refused_total" and sample.value
    }


@pytest.mark.parametrize(
    ("limits", "name"),
    [(FOUR, "calls_per_peer"), (PlaceLimits(4, per_peer=100), "calls")],
    ids=["per peer", "total"],
)
async def test_calls_that_wait_for_their_request_keep_no_other_call_out(
    limits: PlaceLimits, name: str
) -> None:
    # However slow the machine, none of them ends by itself.
    server_limits = ServerLimits(calls=limits, request_time=timedelta(hours=1))
    async with scripted_server(limits=server_limits) as running:
        waiting = [asyncio.ensure_future(refused(without_request(running))) for _ in range(4)]
        await eventually(lambda: asyncio.sleep(0, running.open_calls()), lambda count: count == 4)
        for _ in range(4):
            await served(running)
        # The first served call took the place of a waiting one, and the next ones took its own.
        (ended,), others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        refusal = ended.result()
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert refusals(running) == {name: 1}
        for call in others:
            call.cancel()


async def test_a_call_whose_request_does_not_come_in_time_is_ended() -> None:
    limits = ServerLimits(request_time=timedelta(milliseconds=100))
    async with scripted_server(limits=limits) as running:
        refusal = await refused(without_request(running))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "REQUEST_TIMEOUT")
        assert refusals(running) == {"request_time": 1}


async def test_a_call_that_ends_without_a_request_is_an_invalid_argument() -> None:
    async with scripted_server() as running:
        call = without_request(running)
        await call.done_writing()
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "NO_REQUEST")


async def test_a_caller_that_hangs_up_before_its_request_frees_the_place() -> None:
    async with scripted_server(limits=ServerLimits(calls=FOUR)) as running:
        for _ in range(3):
            waiting = [without_request(running) for _ in range(4)]
            await eventually(lambda: asyncio.sleep(0, running.open_calls()), lambda count: count == 4)
            for call in waiting:
                call.cancel()
            await eventually(lambda: asyncio.sleep(0, running.open_calls()), lambda count: count == 0)
        await served(running)
        assert refusals(running) == {}


async def test_a_call_that_runs_is_never_ended_for_another_one() -> None:
    async with scripted_server(limits=ServerLimits(calls=FOUR)) as running:
        held = running.service.answer = Held()
        calls = [asyncio.ensure_future(running.stub.Get(VALID)) for _ in range(4)]
        await eventually(lambda: asyncio.sleep(0, running.service.calls), lambda count: count == 4)
        refusal = await refused(running.stub.Get(VALID))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert refusal.retry_after_seconds == 1
        held.may_end.set()
        assert await asyncio.gather(*calls) == [pb.GetResponse()] * 4
        await served(running)


async def endless(_request: Any, _context: Any) -> AsyncIterator[pb.WatchResponse]:
    yield pb.WatchResponse()
    await asyncio.Event().wait()


async def test_streams_have_places_of_their_own() -> None:
    async with scripted_server(limits=ServerLimits(streams=FOUR)) as running:
        running.service.stream = endless
        streams = [running.stub.Watch(pb.WatchRequest()) for _ in range(4)]
        for stream in streams:
            await stream.read()
        late = running.stub.Watch(pb.WatchRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await late.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await served(running)
        streams[0].cancel()

        async def admitted() -> bool:
            stream = running.stub.Watch(pb.WatchRequest())
            try:
                await stream.read()
            except grpc.aio.AioRpcError:
                return False
            return True

        assert await eventually(admitted)


async def test_health_checks_are_answered_while_every_other_place_is_taken() -> None:
    limits = ServerLimits(calls=FOUR, streams=FOUR)
    async with scripted_server(limits=limits) as running:
        running.service.answer, running.service.stream = Held(), endless
        calls = [asyncio.ensure_future(running.stub.Get(VALID)) for _ in range(4)]
        streams = [running.stub.Watch(pb.WatchRequest()) for _ in range(4)]
        for stream in streams:
            await stream.read()
        stub: Any = HealthStub(running.channel)
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        for call in calls:
            call.cancel()


async def test_the_oldest_health_watch_is_ended_for_a_new_one() -> None:
    own = PlaceLimits(2, per_peer=100, evicts_running=True)
    async with scripted_server(limits=ServerLimits(own_calls=own)) as running:
        stub: Any = HealthStub(running.channel)
        watches = []
        for _ in range(3):
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            await watch.read()
            watches.append(watch)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watches[0].read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await running.server.set_serving(True)
        for watch in watches[1:]:
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert refusals(running) == {"own_calls": 1}


async def test_a_client_with_one_health_watch_keeps_it_however_many_another_connection_has() -> None:
    own = PlaceLimits(100, per_peer=3, evicts_running=True)
    async with scripted_server(limits=ServerLimits(own_calls=own)) as running:
        # A channel of gRPC's own subchannel pool: a connection of its own, from the same address.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(running.server.address, options=options) as channel:
            good: Any = HealthStub(channel)
            watch = good.Watch(health_pb2.HealthCheckRequest())
            await watch.read()
            stub: Any = HealthStub(running.channel)
            for _ in range(5):
                await stub.Watch(health_pb2.HealthCheckRequest()).read()
            await running.server.set_serving(True)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert refusals(running) == {"own_calls_per_peer": 3}


async def test_a_connection_that_never_speaks_http2_is_closed() -> None:
    limits = ServerLimits(handshake_time=timedelta(milliseconds=200))
    async with scripted_server(limits=limits) as running:
        host, _, port = running.server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            # The server's settings may come first.
            while await reader.read(65_536):
                pass
        writer.close()
        await writer.wait_closed()
        await served(running)


def test_fewer_connections_are_accepted_when_descriptors_are_few_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1_024, 4_096))
    with structlog.testing.capture_logs() as log:
        assert usable_connections(1_000) == 896
        assert usable_connections(800) == 800
    assert [(line["event"], line["connections"]) for line in log] == [("descriptor_limit_low", 896)]
