"""Bad input to the RPCs on timelines, side effects and knowledge, to Watch and to the items of a batch.

And malformed messages to every RPC.
"""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import grpc.aio
import pytest
import pytest_asyncio

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.callers import Incidents
from tests.incident.incidents import HUMAN
from tests.incident.integration.bad_values import (
    BAD_ETAGS,
    BAD_IDS,
    BAD_TIMES,
    BLANK,
    ID,
    LONG_LABELS,
    cases,
)
from tests.rpc_errors import read_status, refused
from tests.services import RunningService

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Stub = IncidentServiceAsyncStub
    Rows = asyncpg.Connection[asyncpg.Record]

Type = incident_pb2.IncidentEvent
# A connection that brings many bytes that are no message is closed: a call here is not to be refused for others.
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
Item = pb.BatchResolveRequest.Item
TABLES = (
    "incidents", "incident_events", "create_requests", "outbox", "postmortems", "dispositions", "knowledge",
    "knowledge_uses", "counters",
)  # fmt: skip


def valid(build: Callable[..., Any], **fields: Any) -> Callable[..., Any]:
    """A builder of valid requests, in which a case replaces fields."""
    return lambda **replaced: build(**(fields | replaced))


resolve = valid(pb.ResolveRequest, incident_id=ID, resolution_type=HUMAN)
reopen = valid(pb.ReopenRequest, incident_id=ID, reason="it came back")
event = valid(pb.AddEventRequest, event_id="e", incident_id=ID, type=Type.TYPE_NOTE, summary="looked")
proposed = valid(pb.AddEventRequest, event_id="e", incident_id=ID, type=Type.TYPE_PROPOSED)
retry = valid(pb.RetrySideEffectRequest, incident_id=ID, effect=incident_pb2.SideEffect.EFFECT_WEBHOOK)
retry_all = valid(pb.RetrySideEffectsRequest)
dismiss = valid(
    pb.DismissSideEffectRequest,
    incident_id=ID,
    effect=incident_pb2.SideEffect.EFFECT_WEBHOOK,
    reason="the receiver is gone",
)
postmortem = valid(pb.GetPostmortemRequest, incident_id=ID)
search = valid(pb.SearchKnowledgeRequest, query="disk full")
effects = valid(pb.ListSideEffectsRequest)
watch = valid(pb.WatchRequest)

SOME_IDS = {name: value for name, value in BAD_IDS.items() if value}
BAD_NUMBERS = {"missing": 0, "unknown": 99, "negative": -1}
KEYS = {"too long": "x" * 129, "space": "a b", "NUL": "\0", "not ASCII": "ż", "line break behind": "a\n"}
TOKENS = {"nonsense": "nonsense", "too long": "x" * 4097, "NUL": "\0"}
TEXTS = {"NUL": "a\0b", "too long": "x" * 8193, "too many bytes": "ż" * 4097}
OF_AN_APPROVAL = {
    "of an incident": ID,
    "blank": " ",
    "NUL": "APR-20260507-99ADF\0",
    "lower case": "apr-20260507-99adf2",
    "line break behind": "APR-20260507-99ADF2\n",
    "too long": "APR-20260507-99ADF299ADF29",
}
ACTIONS = {"NUL": "a\0b", "too long": "ż" * 1025}
WITH_OTHER_NAMES = {"with other names": f"{ID}/webhook/1"}
DELIVERY_IDS = {"NUL": "a\0b", "too many bytes": "ż" * 513}
OWN_TYPES = {
    name: number
    for name, number in Type.Type.items()
    if name.removeprefix("TYPE_")
    not in (
        "PROPOSED",
        "APPROVED",
        "REJECTED",
        "EXPIRED",
        "CANCELLED",
        "EXECUTED",
        "EXECUTION_FAILED",
        "NOTE",
        "RECOVERED",
        "NOT_RECOVERED",
        "EXECUTION_STARTED",
    )
}


def lists(rpc: str, field: str, build: Callable[..., Any]) -> list[Any]:
    """Cases of a list of an enum's values."""
    return [
        *cases(rpc, field, build, {"UNSPECIFIED": [0]}, named=f"{field}[0]"),
        *cases(rpc, field, build, {"unknown": [1, 99], "negative": [1, -1]}, named=f"{field}[1]"),
        *cases(rpc, field, build, {"too many": [1] * 17}),
    ]


CASES = [
    *cases("Resolve", "approval_id", resolve, OF_AN_APPROVAL),
    *cases("Resolve", "action", resolve, ACTIONS),
    *cases("Reopen", "incident_id", reopen, BAD_IDS),
    *cases("Reopen", "reason", reopen, {"missing": "", **TEXTS, **BLANK}),
    *cases("Reopen", "etag", reopen, BAD_ETAGS),
    *cases("Reopen", "request_id", reopen, KEYS),
    *cases("AddEvent", "event_id", event, {"missing": "", "of the service": "service:incident/a", **KEYS}),
    *cases("AddEvent", "incident_id", event, BAD_IDS),
    *cases("AddEvent", "type", event, {"unknown": 99, "negative": -1, **OWN_TYPES}),
    *cases("AddEvent", "event_time", event, BAD_TIMES),
    *cases("AddEvent", "summary", event, {"missing for a note": "", **BLANK}),
    *cases("AddEvent", "summary", proposed, TEXTS),
    *cases("AddEvent", "attributes", event, LONG_LABELS),
    *lists("Watch", "states", watch),
    *lists("Watch", "severities", watch),
    *cases("Watch", "fingerprint", watch, {"NUL": "a\0b", "too long": "x" * 257}),
    *cases("Watch", "labels", watch, LONG_LABELS),
    *cases("Watch", "incident_id", watch, SOME_IDS),
    *cases("Watch", "resume_token", watch, TOKENS),
    *cases("ListSideEffects", "incident_id", effects, SOME_IDS),
    *lists("ListSideEffects", "states", effects),
    *lists("ListSideEffects", "effects", effects),
    *cases("ListSideEffects", "page_size", effects, {"negative": -1, "very negative": -(2**31)}),
    *cases("ListSideEffects", "page_token", effects, TOKENS),
    *cases("RetrySideEffect", "incident_id", retry, BAD_IDS),
    *cases("RetrySideEffect", "effect", retry, BAD_NUMBERS),
    *cases("RetrySideEffect", "resolution_number", retry, {"negative": -1, "very negative": -(2**31)}),
    *cases("RetrySideEffect", "delivery_id", retry, WITH_OTHER_NAMES),
    *cases("RetrySideEffect", "delivery_id", valid(pb.RetrySideEffectRequest), DELIVERY_IDS),
    *lists("RetrySideEffects", "effects", retry_all),
    *cases("RetrySideEffects", "limit", retry_all, {"negative": -1, "too many": 1001}),
    *cases("DismissSideEffect", "incident_id", dismiss, BAD_IDS),
    *cases("DismissSideEffect", "effect", dismiss, BAD_NUMBERS),
    *cases("DismissSideEffect", "resolution_number", dismiss, {"negative": -1, "very negative": -(2**31)}),
    *cases("DismissSideEffect", "delivery_id", dismiss, WITH_OTHER_NAMES),
    *cases(
        "DismissSideEffect", "delivery_id", valid(pb.DismissSideEffectRequest, reason="over"), DELIVERY_IDS
    ),
    *cases(
        "DismissSideEffect", "reason", dismiss, {"missing": "", "NUL": "a\0b", "too long": "ż" * 513, **BLANK}
    ),
    *cases("GetPostmortem", "incident_id", postmortem, BAD_IDS),
    *cases("GetPostmortem", "resolution_number", postmortem, {"negative": -1, "very negative": -(2**31)}),
    *cases(
        "SearchKnowledge", "query", search, {"missing": "", "NUL": "a\0b", "too long": "ż" * 1025, **BLANK}
    ),
    *lists("SearchKnowledge", "resolution_types", search),
    *cases("SearchKnowledge", "page_size", search, {"negative": -1}),
    *cases("SearchKnowledge", "page_token", search, TOKENS),
]


@pytest_asyncio.fixture
async def untouched(rows: "Rows") -> AsyncIterator[None]:
    """Nothing is written while the test runs."""

    async def written() -> list[Any]:
        return [await rows.fetch(f"SELECT xmin, xmax, ctid FROM {table}") for table in TABLES]  # noqa: S608 - constants

    before = await written()
    yield
    assert await written() == before


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("rpc", "request_message", "field"), CASES)
async def test_an_invalid_field_is_named_and_nothing_is_written(
    stub: "Stub", rpc: str, request_message: Any, field: str
) -> None:
    call = getattr(stub, rpc)(request_message)
    refusal = await refused(call.read() if rpc == "Watch" else call)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refusal.fields) == {field}
    assert all(refusal.descriptions)
    assert len(refusal.wire) < 4000


SERVICE = pb.DESCRIPTOR.services_by_name["IncidentService"]
METHODS = [pytest.param(method, id=method.name) for method in SERVICE.methods]


@pytest.mark.parametrize(
    "rpc",
    [
        "Reopen",
        "AddEvent",
        "Watch",
        "ListSideEffects",
        "RetrySideEffect",
        "RetrySideEffects",
        "DismissSideEffect",
        "GetPostmortem",
        "SearchKnowledge",
    ],
)
def test_every_constrained_field_has_a_case(rpc: str) -> None:
    fields = SERVICE.methods_by_name[rpc].input_type.fields
    may_be_wrong = {field.name for field in fields if field.type != field.TYPE_BOOL}
    assert {case.values[2].partition("[")[0] for case in CASES if case.values[0] == rpc} == may_be_wrong


ITEMS: dict[str, tuple[dict[str, Any], str]] = {
    **{f"incident_id {name}": ({"incident_id": value}, "incident_id") for name, value in BAD_IDS.items()},
    **{
        f"type {name}": ({"resolution_type": value}, "resolution_type") for name, value in BAD_NUMBERS.items()
    },
    **{f"note {name}": ({"note": value}, "note") for name, value in TEXTS.items()},
    **{
        f"approval_id {name}": ({"approval_id": value}, "approval_id")
        for name, value in OF_AN_APPROVAL.items()
    },
    **{f"action {name}": ({"action": value}, "action") for name, value in ACTIONS.items()},
}


async def test_an_invalid_batch_item_has_its_field_named_and_the_others_are_resolved(
    incidents: Incidents,
) -> None:
    good = [(await incidents.opened()).incident_id for _ in range(2)]
    bad = (await incidents.opened()).incident_id
    item = valid(Item, incident_id=bad, resolution_type=HUMAN)
    items = [item(**fields) for fields, _ in ITEMS.values()]
    ends = [Item(incident_id=each, resolution_type=HUMAN) for each in good]
    results = await incidents.batch_resolve([ends[0], *items, ends[1]])
    refusals = {
        name: read_status(result.status) for name, result in zip(ITEMS, list(results)[1:-1], strict=True)
    }
    assert {name: (each.code, each.fields) for name, each in refusals.items()} == {
        name: (grpc.StatusCode.INVALID_ARGUMENT, (field,)) for name, (_, field) in ITEMS.items()
    }
    assert [results[place].resolved.already_resolved for place in (0, -1)] == [False, False]
    untouched = await incidents.get(bad)
    assert untouched.state == incident_pb2.Incident.STATE_OPEN


@pytest.mark.parametrize("method", METHODS)
async def test_malformed_messages_are_refused_and_the_service_continues(
    service: RunningService, incidents: Incidents, method: Any
) -> None:
    name = f"/{SERVICE.full_name}/{method.name}"
    kinds: dict[str, tuple[bytes, grpc.StatusCode | None]] = {
        "junk": (b"\xff" * 100, None),
        "truncated": (b"\x0a\x7fab", None),
        "deeply nested": (b"\x0b" * 10_000, None),
        "above the limit": (b"\x0a" * ((1 << 20) + 1), grpc.StatusCode.RESOURCE_EXHAUSTED),
    }
    async with grpc.aio.insecure_channel(service.address, options=_OWN_CONNECTION) as channel:
        call_once: Any = channel.unary_unary(name)
        watch_it: Any = channel.unary_stream(name)
        for content, code in kinds.values():
            call = (
                watch_it(content, timeout=60).read()
                if method.name == "Watch"
                else call_once(content, timeout=60)
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() not in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED)
            assert code in (None, caught.value.code())
    await incidents.opened()
