"""Bad input: a clear error that names the field, and nothing is written."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
import pytest_asyncio

from awoooi.client import CallError
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.callers import Incidents
from tests.incident.incidents import HUMAN
from tests.incident.integration.bad_values import (
    BAD_ETAGS,
    BAD_IDS,
    BAD_TIMES,
    BLANK,
    ID,
    INVISIBLE,
    LONG_LABELS,
    NOT_IN_KEYS,
    NOT_IN_LINES,
    at,
    cases,
)
from tests.incident.wire import create_request
from tests.rpc_errors import refused
from tests.services import RunningService

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Stub = IncidentServiceAsyncStub
    Rows = asyncpg.Connection[asyncpg.Record]


def resolve(**fields: Any) -> pb.ResolveRequest:
    valid: dict[str, Any] = {"incident_id": ID, "resolution_type": HUMAN}
    return pb.ResolveRequest(**(valid | fields))


def start(**fields: Any) -> pb.StartInvestigationRequest:
    return pb.StartInvestigationRequest(**({"incident_id": ID} | fields))


def events(**fields: Any) -> pb.ListEventsRequest:
    return pb.ListEventsRequest(**({"incident_id": ID} | fields))


TIMES = ("create_time_start", "create_time_end", "resolve_time_start", "resolve_time_end")

CASES = [
    *cases("Get", "incident_id", pb.GetRequest, BAD_IDS),
    *cases("Resolve", "incident_id", resolve, BAD_IDS),
    *cases("StartInvestigation", "incident_id", start, BAD_IDS),
    *cases("ListEvents", "incident_id", events, BAD_IDS),
    *cases("Create", "incident_id", create_request, {k: v for k, v in BAD_IDS.items() if v}),
    *cases(
        "Create",
        "title",
        create_request,
        {"missing": "", "too long": "x" * 501, **NOT_IN_LINES, **BLANK, **INVISIBLE},
    ),
    *cases("Create", "description", create_request, {"NUL": "a\0b", "too long": "ż" * 4097}),
    *cases("Create", "severity", create_request, {"missing": 0, "unknown": 99, "negative": -1}),
    *cases("Create", "fingerprint", create_request, {"too long": "x" * 257, **NOT_IN_KEYS, **BLANK}),
    *cases("Create", "source", create_request, {"too long": "x" * 257, **NOT_IN_KEYS, **BLANK}),
    *cases("Create", "labels", create_request, LONG_LABELS),
    *cases(
        "Create",
        "request_id",
        create_request,
        {"too long": "x" * 129, "space": "a b", "line break behind": "a\n", "not ASCII": "ż", "NUL": "\0"},
    ),
    *cases("Resolve", "resolution_type", resolve, {"missing": 0, "unknown": 99, "negative": -1}),
    *cases("Resolve", "note", resolve, {"NUL": "a\0b", "too long": "x" * 8193, "too many bytes": "ż" * 4097}),
    *cases("Resolve", "etag", resolve, BAD_ETAGS),
    *cases("StartInvestigation", "etag", start, BAD_ETAGS),
    *cases("BatchResolve", "items", pb.BatchResolveRequest, {"none": []}),
    *cases("List", "states", pb.ListRequest, {"UNSPECIFIED": [0]}, named="states[0]"),
    *cases("List", "states", pb.ListRequest, {"unknown": [1, 99]}, named="states[1]"),
    *cases("List", "states", pb.ListRequest, {"too many": [1] * 17}),
    *cases("List", "severities", pb.ListRequest, {"UNSPECIFIED": [0]}, named="severities[0]"),
    *cases("List", "severities", pb.ListRequest, {"unknown": [99]}, named="severities[0]"),
    *cases("List", "fingerprint", pb.ListRequest, {"NUL": "a\0b", "too long": "x" * 257}),
    *cases("List", "labels", pb.ListRequest, LONG_LABELS),
    *cases("List", "order", pb.ListRequest, {"unknown": 99, "negative": -1}),
    *cases("List", "page_size", pb.ListRequest, {"negative": -1, "very negative": -(2**31)}),
    *cases(
        "List", "page_token", pb.ListRequest, {"nonsense": "nonsense", "too long": "x" * 4097, "NUL": "\0"}
    ),
    *[case for field in TIMES for case in cases("List", field, pb.ListRequest, BAD_TIMES)],
    *cases("ListEvents", "types", events, {"UNSPECIFIED": [0]}, named="types[0]"),
    *cases("ListEvents", "types", events, {"too many": [1] * 33}),
    *cases("ListEvents", "page_size", events, {"negative": -1}),
    *cases("ListEvents", "page_token", events, {"nonsense": "nonsense", "too long": "x" * 4097}),
    pytest.param(
        "List",
        pb.ListRequest(create_time_start=at(2), create_time_end=at(1)),
        "create_time_start",
        id="List create_time_start after create_time_end",
    ),
    pytest.param(
        "List",
        pb.ListRequest(resolve_time_start=at(2), resolve_time_end=at(1)),
        "resolve_time_start",
        id="List resolve_time_start after resolve_time_end",
    ),
]


@pytest_asyncio.fixture
async def untouched(rows: "Rows") -> AsyncIterator[None]:
    """Nothing is written while the test runs."""

    async def written() -> list[Any]:
        tables = ("incidents", "incident_events", "outbox", "create_requests")
        return [await rows.fetch(f"SELECT xmin, xmax, ctid FROM {table}") for table in tables]  # noqa: S608 - constants

    before = await written()
    yield
    assert await written() == before


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("rpc", "request_message", "field"), CASES)
async def test_an_invalid_field_is_named_and_nothing_is_written(
    stub: "Stub", rpc: str, request_message: Any, field: str
) -> None:
    refusal = await refused(getattr(stub, rpc)(request_message))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.fields) == {field}
    assert all(refusal.descriptions)
    assert len(refusal.wire) < 4000


async def test_several_invalid_fields_are_all_named(stub: "Stub") -> None:
    refusal = await refused(stub.Create(pb.CreateRequest(title="", fingerprint="\n", labels={"": "\0"})))
    assert set(refusal.fields) == {"title", "severity", "fingerprint", "labels"}
    assert [
        part.partition(":")[0] for part in refusal.message.removeprefix("invalid argument: ").split("; ")
    ] == ["title", "severity", "fingerprint", "labels"]


async def test_invalid_times_are_both_named_and_not_compared(stub: "Stub") -> None:
    request = pb.ListRequest(create_time_start=at(2**62), create_time_end=at(-(2**62)))
    refusal = await refused(stub.List(request))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refusal.fields) == {"create_time_start", "create_time_end"}


GOOD: dict[str, dict[str, Any]] = {
    "longest title": {"title": "ż" * 500},
    "longest description": {"description": "x" * 8192},
    "line breaks in a description": {"description": "a\n\tb\n"},
    "most and longest labels": {"labels": {f"{number:02}" + "k" * 254: "ż" * 256 for number in range(64)}},
    "line break in a label's value": {"labels": {"k": "a\nb"}},
    "longest fingerprint": {"fingerprint": "ż" * 256},
    "longest source": {"source": "x" * 256},
    "longest request id": {"request_id": "~" * 128},
    "longest id": {"incident_id": "INC-20260507-0123456789AB"},
    "what a query must not be made of": {
        "title": "'; DROP TABLE incidents; --",
        "source": "%s %(a)s :x {y} \\",
    },
    "emoji and right to left": {
        "title": "👩\u200d💻 \u05e9\u05dc\u05d5\u05dd \u200f\u0645\u06cc\u200c\u062e"
    },
}


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
async def test_values_at_the_limits_are_stored_unchanged(
    incidents: Incidents, fields: dict[str, Any]
) -> None:
    incident = await incidents.opened(**fields)
    found = await incidents.get(incident.incident_id)
    for name, value in fields.items():
        if name != "request_id":
            assert getattr(found, name) == value


async def test_a_message_above_the_size_limit_is_refused_and_the_service_continues(
    incidents: Incidents,
) -> None:
    with pytest.raises(CallError) as caught:
        await incidents.opened(description="x" * (1 << 20))
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    await incidents.opened()


async def test_malformed_messages_are_refused_and_the_service_continues(
    service: RunningService, incidents: Incidents
) -> None:
    async with grpc.aio.insecure_channel(service.address) as channel:
        create: Any = channel.unary_unary("/awoooi.incident.v1.IncidentService/Create")
        for junk in (b"\xff" * 100, b"\x0a\x05ab", b"\x0b" * 10_000, b"\x12\x02\xc3\x28"):
            with pytest.raises(grpc.aio.AioRpcError):
                await create(junk)
    await incidents.opened()


async def test_an_invalid_actor_is_refused(incidents: Incidents) -> None:
    refusal = await refused(incidents.opened(actor="not a name"))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("metadata awoooi-actor",))
