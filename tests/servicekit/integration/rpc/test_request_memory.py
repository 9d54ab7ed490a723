"""The request of a call is freed when the call ends: an answer by an error leaves no circle of references around it."""

import asyncio
import gc
import logging
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog

from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.rpc.status_codes import ErrorTable
from servicekit.rpc.status_details import RpcStatus
from tests.eventually import eventually
from tests.servicekit.scripted_server import VALID, Answer, Held, at_once, scripted_server

CALLS = 5


class KnownError(Exception):
    """Something known."""


ERRORS = ErrorTable({KnownError: lambda _error: RpcStatus(grpc.StatusCode.ABORTED, "known", "KNOWN")})
INVALID = pb.GetRequest(incident_id="no id")


@pytest.fixture
def without_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def without_log() -> Iterator[None]:
    # What writes the tests' log shows the variables of each frame, and keeps them for a while.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.reset_defaults()


def held_requests() -> int:
    """How many requests this process holds beside the test's own."""
    return sum(
        isinstance(each, pb.GetRequest) and each is not VALID and each is not INVALID
        for each in gc.get_objects()
    )


def raising_new(error: type[Exception]) -> Answer:
    """An answer that fails with an error of its own each time: one that lives on would hold the frames itself."""

    async def answer(_request: Any, _context: Any) -> pb.GetResponse:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "request_", "seconds"),
    [
        (at_once, VALID, 10.0),
        (at_once, INVALID, 10.0),
        (raising_new(KnownError), VALID, 10.0),
        (raising_new(RuntimeError), VALID, 10.0),
        (Held(), VALID, 0.1),
    ],
    ids=["answered", "refused", "known error", "unknown error", "deadline"],
)
@pytest.mark.usefixtures("without_garbage_collection", "without_log")
async def test_an_ended_call_leaves_its_request_to_no_garbage_collection(
    answer: Answer, request_: pb.GetRequest, seconds: float
) -> None:
    async with scripted_server(errors=ERRORS) as running:
        running.service.answer = answer
        before = held_requests()

        for _ in range(CALLS):
            try:
                await running.stub.Get(request_, timeout=seconds)
            except grpc.aio.AioRpcError:
                continue

        await eventually(lambda: asyncio.sleep(0, held_requests()), lambda count: count <= before)
