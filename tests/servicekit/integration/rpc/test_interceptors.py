"""What every RPC passes through, on a real server: telemetry, errors, deadline, identity, validation."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import structlog
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.rpc.identity import current_actor
from servicekit.rpc.interceptors.validation import pattern_rule
from servicekit.rpc.server_limits import ServerLimits
from servicekit.rpc.status_codes import ErrorTable
from servicekit.rpc.status_details import RpcStatus
from tests.eventually import eventually
from tests.rpc_errors import refused
from tests.servicekit.scripted_server import (
    VALID,
    Held,
    Running,
    at_once,
    raising,
    scripted_server,
)


class KnownError(Exception):
    """Something known."""


ERRORS = ErrorTable({KnownError: lambda _error: RpcStatus(grpc.StatusCode.ABORTED, "known", "KNOWN")})
SECRET = "postgresql://app:hunter2@db"


@pytest_asyncio.fixture
async def running() -> AsyncIterator[Running]:
    async with scripted_server(errors=ERRORS) as running:
        yield running


async def handled(running: Running, code: str, method: str = "Get") -> None:
    """Return when one call of the method is counted, with this code; a server counts after it answered."""
    await eventually(lambda: asyncio.sleep(0, running.timed(method)), lambda count: count >= 1)
    codes = {other.name: running.handled(other.name, method) for other in grpc.StatusCode}
    assert {name: count for name, count in codes.items() if count} == {code: 1}
    assert running.timed(method) == 1


async def test_an_answer_is_counted_and_timed(running: Running) -> None:
    assert await running.stub.Get(VALID) == pb.GetResponse()
    await handled(running, "OK")


async def test_a_known_error_has_the_status_of_its_table(running: Running) -> None:
    running.service.answer = raising(KnownError(SECRET))
    refusal = await refused(running.stub.Get(VALID))
    assert (refusal.code, refusal.message, refusal.reason) == (grpc.StatusCode.ABORTED, "known", "KNOWN")
    assert "hunter2" not in refusal.wire
    await handled(running, "ABORTED")


async def test_an_unknown_error_is_internal_with_nothing_but_its_id(running: Running) -> None:
    running.service.answer = raising(ValueError(SECRET))
    with structlog.testing.capture_logs() as log:
        refusal = await refused(running.stub.Get(VALID))
    assert (refusal.code, refusal.message) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "hunter2" not in refusal.wire
    (line,) = [line for line in log if line["event"] == "rpc_internal_error"]
    assert line["correlation_id"] == refusal.metadata["correlation_id"]
    assert line["method"] == "/awoooi.incident.v1.IncidentService/Get"
    await handled(running, "INTERNAL")


async def test_an_exhausted_pool_is_retryable(running: Running) -> None:
    running.service.answer = raising(PoolTimeoutError(SECRET))
    refusal = await refused(running.stub.Get(VALID))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DATABASE_BUSY")
    assert refusal.retry_after_seconds == 1


async def test_a_call_that_its_own_handler_aborted_passes_as_it_is(running: Running) -> None:
    async def answer(_request: Any, context: Any) -> pb.GetResponse:
        await context.abort(grpc.StatusCode.DATA_LOSS, "as the handler said")
        raise AssertionError("abort raises")

    running.service.answer = answer
    with structlog.testing.capture_logs() as log, pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.Get(VALID)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DATA_LOSS, "as the handler said")
    assert log == []
    await handled(running, "DATA_LOSS")


async def test_a_method_that_is_not_built_yet_says_so(running: Running) -> None:
    refusal = await refused(running.stub.ListEvents(pb.ListEventsRequest(incident_id=VALID.incident_id)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    await handled(running, "UNIMPLEMENTED", "ListEvents")


async def test_a_method_that_does_not_exist_is_unimplemented_and_not_counted(running: Running) -> None:
    call: Any = running.channel.unary_unary("/awoooi.incident.v1.IncidentService/NoSuchMethod")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert running.timed("NoSuchMethod") == 0


async def test_the_callers_deadline_ends_the_call_and_is_counted_as_that(running: Running) -> None:
    held = running.service.answer = Held()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.Get(VALID, timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await held.cancelled.wait()
    await handled(running, "DEADLINE_EXCEEDED")


async def test_a_caller_that_hangs_up_ends_the_call_and_is_counted_as_that(running: Running) -> None:
    held = running.service.answer = Held()
    call = running.stub.Get(VALID)
    await held.began.wait()
    call.cancel()
    await held.cancelled.wait()
    await handled(running, "CANCELLED")


@pytest.mark.parametrize("seconds", [None, 3600], ids=["none", "an hour"])
async def test_the_servers_cap_ends_a_call_whose_caller_would_wait_longer(seconds: float | None) -> None:
    limits = ServerLimits(deadline=timedelta(milliseconds=200))
    async with scripted_server(limits=limits) as running:
        held = running.service.answer = Held()
        refusal = await refused(running.stub.Get(VALID, timeout=seconds))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        assert held.cancelled.is_set()
        await handled(running, "DEADLINE_EXCEEDED")


async def test_a_timeout_of_the_handlers_own_is_not_taken_for_the_cap(running: Running) -> None:
    running.service.answer = raising(TimeoutError(SECRET))
    assert (await refused(running.stub.Get(VALID))).code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    "actor", ["alice", "a@b.c", "service:approval", "spiffe://awoooi/approval", "x" * 128]
)
async def test_the_caller_is_who_it_says(running: Running, actor: str) -> None:
    assert await actor_seen(running, (("awoooi-actor", actor),)) == actor


async def test_a_caller_without_a_name_is_anonymous_also_after_one_with_a_name(running: Running) -> None:
    assert await actor_seen(running, (("awoooi-actor", "alice"),)) == "alice"
    assert await actor_seen(running, ()) == "anonymous"


@pytest.mark.parametrize("actor", ["Alice", "ALICE", " alice "], ids=ascii)
async def test_every_spelling_of_a_name_is_the_same_caller(running: Running, actor: str) -> None:
    assert await actor_seen(running, (("awoooi-actor", actor),)) == "alice"


@pytest.mark.parametrize(
    "actor",
    ["", "a b", "-alice", "x" * 129, 'a"b', "a;b", "a=b", "policy:restarts", "System:clock"],
    ids=ascii,
)
async def test_a_name_that_is_none_is_refused(running: Running, actor: str) -> None:
    refusal = await refused(running.stub.Get(VALID, metadata=(("awoooi-actor", actor),)))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("metadata awoooi-actor",))
    assert running.service.calls == 0


async def actor_seen(running: Running, metadata: tuple[tuple[str, str], ...]) -> str:
    seen: list[str] = []

    async def answer(request: Any, context: Any) -> pb.GetResponse:
        seen.append(current_actor())
        return await at_once(request, context)

    running.service.answer = answer
    await running.stub.Get(VALID, metadata=metadata)
    return seen[0]


def test_every_pattern_of_the_contracts_has_words_of_its_own() -> None:
    text = "".join(
        path.read_text() for path in (Path(__file__).parents[4] / "protos/awoooi").rglob("*.proto")
    )
    patterns = {found.replace("\\\\", "\\") for found in re.findall(r'pattern\W*"(.*?)"', text)}
    assert patterns
    assert [pattern for pattern in patterns if pattern_rule(pattern) is None] == []


@pytest.mark.parametrize(
    "incident_id", ["", " ", "inc-20260507-99adf2", "INC-20260507-99ADF2\n", "INC-20260507-99ADF"]
)
async def test_a_request_that_breaks_a_rule_names_the_field_and_never_its_value(
    running: Running, incident_id: str
) -> None:
    refusal = await refused(running.stub.Get(pb.GetRequest(incident_id=incident_id)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.fields) == {"incident_id"}
    wrong = (
        "must be INC-YYYYMMDD- and 6 to 12 upper-case hexadecimal digits"
        if incident_id
        else "value is required"
    )
    assert refusal.message == f"invalid argument: incident_id: {wrong}"
    assert not incident_id.strip() or incident_id not in refusal.wire
    assert running.service.calls == 0
    await handled(running, "INVALID_ARGUMENT")


async def test_bytes_that_are_no_message_are_an_error_and_the_server_goes_on(running: Running) -> None:
    get: Any = running.channel.unary_unary("/awoooi.incident.v1.IncidentService/Get")
    for junk in (b"\xff" * 10, b"\x0a\x7f", b"\x0b" * 1000, b"\x0a\x02\xff\xff"):
        with pytest.raises(grpc.aio.AioRpcError):
            await get(junk)
    assert running.service.calls == 0
    assert await running.stub.Get(VALID) == pb.GetResponse()


async def test_a_message_above_the_limit_is_refused_and_the_server_goes_on(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.Create(pb.CreateRequest(title="x" * (1 << 20)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await running.stub.Get(VALID) == pb.GetResponse()


async def test_metadata_above_the_limit_is_refused_and_the_server_goes_on(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await running.stub.Get(VALID, metadata=(("x-large", "x" * (20 << 10)),))
    assert await running.stub.Get(VALID) == pb.GetResponse()


CHANGE = pb.WatchResponse(incident=incident_pb2.Incident(title="changed"))


async def changes(_request: Any, _context: Any) -> AsyncIterator[pb.WatchResponse]:
    for _ in range(3):
        yield CHANGE


async def test_a_stream_passes_through_and_is_counted_when_it_ends(running: Running) -> None:
    running.service.stream = changes
    assert [response async for response in running.stub.Watch(pb.WatchRequest())] == [CHANGE] * 3
    await handled(running, "OK", "Watch")


@pytest.mark.parametrize(
    ("error", "code"), [(KnownError(), "ABORTED"), (ValueError(SECRET), "INTERNAL")], ids=["known", "unknown"]
)
async def test_a_stream_that_fails_midway_ends_with_its_status(
    running: Running, error: Exception, code: str
) -> None:
    async def stream(_request: Any, _context: Any) -> AsyncIterator[pb.WatchResponse]:
        yield CHANGE
        raise error

    running.service.stream = stream
    responses = running.stub.Watch(pb.WatchRequest())
    assert await anext(aiter(responses)) == CHANGE
    refusal = await refused(anext(aiter(responses)))
    assert refusal.code.name == code
    assert "hunter2" not in refusal.wire
    await handled(running, code, "Watch")


async def test_a_stream_whose_request_breaks_a_rule_does_not_begin(running: Running) -> None:
    responses = running.stub.Watch(pb.WatchRequest(fingerprint="x" * 257))
    refusal = await refused(anext(aiter(responses)))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("fingerprint",))


async def test_a_stream_that_its_reader_leaves_is_counted_as_cancelled(running: Running) -> None:
    async def stream(_request: Any, _context: Any) -> AsyncIterator[pb.WatchResponse]:
        yield CHANGE
        await asyncio.Event().wait()

    running.service.stream = stream
    responses = running.stub.Watch(pb.WatchRequest())
    assert await anext(aiter(responses)) == CHANGE
    responses.cancel()
    await handled(running, "CANCELLED", "Watch")


async def test_a_stream_is_not_capped() -> None:
    limits = ServerLimits(deadline=timedelta(milliseconds=10))
    async with scripted_server(limits=limits) as running:

        async def stream(_request: Any, _context: Any) -> AsyncIterator[pb.WatchResponse]:
            yield CHANGE
            await asyncio.sleep(0.1)
            yield CHANGE

        running.service.stream = stream
        assert len([response async for response in running.stub.Watch(pb.WatchRequest())]) == 2


async def test_the_callers_name_reaches_a_stream(running: Running) -> None:
    async def stream(_request: Any, _context: Any) -> AsyncIterator[pb.WatchResponse]:
        yield pb.WatchResponse(resume_token=current_actor())

    running.service.stream = stream
    responses = running.stub.Watch(pb.WatchRequest(), metadata=(("awoooi-actor", "alice"),))
    assert [response.resume_token async for response in responses] == ["alice"]
