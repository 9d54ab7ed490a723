"""Get and List: criteria, order, pages, page tokens."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.incident.incidents import (
    HUMAN,
    INVESTIGATING,
    NO_ACTION,
    OPEN,
    RESOLVED,
    UNKNOWN_ID,
    opened,
    resolved,
    token,
)
from tests.rpc_errors import refused

if TYPE_CHECKING:
    import asyncpg

    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Stub = IncidentServiceAsyncStub
    Rows = asyncpg.Connection[asyncpg.Record]

Order = pb.ListRequest.Order


async def pages(stub: "Stub", request: pb.ListRequest, page_size: int) -> list[list[str]]:
    """The ids on every page."""
    found: list[list[str]] = []
    asked = pb.ListRequest()
    asked.CopyFrom(request)
    asked.page_size = page_size
    while True:
        answer = await stub.List(asked)
        found.append([incident.incident_id for incident in answer.incidents])
        if not answer.next_page_token:
            return found
        asked.page_token = answer.next_page_token


async def listed(stub: "Stub", **fields: Any) -> list[str]:
    """The ids that a List finds."""
    return [incident.incident_id for incident in (await stub.List(pb.ListRequest(**fields))).incidents]


async def test_an_unknown_incident_is_not_found(stub: "Stub") -> None:
    refusal = await refused(stub.Get(pb.GetRequest(incident_id=UNKNOWN_ID)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
    assert refusal.resource == ("awoooi.incident.v1.Incident", UNKNOWN_ID)
    refusal = await refused(stub.ListEvents(pb.ListEventsRequest(incident_id=UNKNOWN_ID)))
    assert refusal.code is grpc.StatusCode.NOT_FOUND


async def test_every_criterion_filters_and_criteria_are_combined(stub: "Stub") -> None:
    mark = {"test": token()}
    high = await opened(stub, labels=mark | {"zone": "a"})
    low = await opened(
        stub, labels=mark | {"zone": "b"}, severity=incident_pb2.SEVERITY_LOW, fingerprint=token()
    )
    started = await opened(stub, labels=mark)
    await stub.StartInvestigation(pb.StartInvestigationRequest(incident_id=started.incident_id))
    done = await resolved(stub, labels=mark)
    names = {
        high.incident_id: "high",
        low.incident_id: "low",
        started.incident_id: "started",
        done.incident_id: "done",
    }

    async def found(**fields: Any) -> set[str]:
        labels = mark | fields.pop("labels", {})
        return {names[one] for one in await listed(stub, labels=labels, **fields)}

    assert await found() == set(names.values())
    assert await found(states=[OPEN]) == {"high", "low"}
    assert await found(states=[INVESTIGATING, RESOLVED]) == {"started", "done"}
    assert await found(severities=[incident_pb2.SEVERITY_LOW]) == {"low"}
    assert await found(severities=[incident_pb2.SEVERITY_LOW], states=[RESOLVED]) == set()
    assert await found(labels={"zone": "a"}) == {"high"}
    assert await found(labels={"zone": "none"}) == set()
    assert await found(fingerprint=low.fingerprint) == {"low"}
    assert await found(create_time_start=low.create_time) == {"low", "started", "done"}
    assert await found(create_time_end=low.create_time) == {"high"}
    assert await found(create_time_start=low.create_time, create_time_end=started.create_time) == {"low"}
    assert await found(create_time_start=low.create_time, create_time_end=low.create_time) == set()
    assert await found(resolve_time_start=done.resolve_time) == {"done"}
    assert await found(resolve_time_end=done.resolve_time) == set()
    assert await found(stuck=True) == set()


async def test_stuck_incidents_are_unresolved_and_without_progress_for_too_long(
    stub: "Stub", rows: "Rows"
) -> None:
    mark = {"test": token()}
    old, _fresh, done = [await opened(stub, labels=mark) for _ in range(3)]
    await stub.Resolve(pb.ResolveRequest(incident_id=done.incident_id, resolution_type=HUMAN))
    await rows.execute(
        "UPDATE incidents SET last_progress_time = now() - interval '31 minutes' WHERE incident_id = ANY ($1)",
        [old.incident_id, done.incident_id],
    )
    assert await listed(stub, labels=mark, stuck=True) == [old.incident_id]


ORDERS: list[tuple[int, str, bool]] = [
    (Order.ORDER_UNSPECIFIED, "create_time", True),
    (Order.ORDER_CREATE_TIME_DESC, "create_time", True),
    (Order.ORDER_CREATE_TIME_ASC, "create_time", False),
    (Order.ORDER_UPDATE_TIME_DESC, "update_time", True),
    (Order.ORDER_LAST_PROGRESS_TIME_ASC, "last_progress_time", False),
]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("page_size", [1, 3, 4, 100])
async def test_pages_have_every_incident_once_in_order_ties_included(
    stub: "Stub", rows: "Rows", order: tuple[Any, str, bool], page_size: int
) -> None:
    number, column, descending = order
    mark = token()
    await rows.execute(
        """
        INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source,
            opened_by, content_hash, create_time, update_time, last_progress_time)
        SELECT 'INC-20260507-' || upper(substr(md5($1 || n), 1, 12)), 't', '', 'LOW', 'OPEN', '',
            jsonb_build_object('test', $1::text), '', 'test', '',
            -- Groups of three share each time.
            now() - make_interval(secs => n / 3), now() - make_interval(secs => (n * 7 % 12) / 3),
            now() - make_interval(secs => (n * 5 % 12) / 3)
        FROM generate_series(0, 11) AS n
        """,
        mark,
    )
    direction = "DESC" if descending else "ASC"
    expected = [
        row["incident_id"]
        for row in await rows.fetch(
            f"SELECT incident_id FROM incidents WHERE labels->>'test' = $1 "  # noqa: S608 - constants
            f"ORDER BY {column} {direction}, incident_id {direction}",
            mark,
        )
    ]
    found = await pages(stub, pb.ListRequest(labels={"test": mark}, order=number), page_size)
    assert [one for page in found for one in page] == expected
    assert all(len(page) == page_size for page in found[:-1])


async def test_incidents_opened_between_pages_do_not_shift_the_next_pages(stub: "Stub") -> None:
    mark = {"test": token()}
    ids = [(await opened(stub, labels=mark)).incident_id for _ in range(6)]
    first = await stub.List(pb.ListRequest(labels=mark, page_size=3))
    await opened(stub, labels=mark)
    rest = await stub.List(pb.ListRequest(labels=mark, page_size=3, page_token=first.next_page_token))
    found = [incident.incident_id for answer in (first, rest) for incident in answer.incidents]
    assert found == ids[::-1]


async def test_the_page_size_is_fifty_by_default_and_at_most_a_thousand(stub: "Stub", rows: "Rows") -> None:
    mark = token()
    await rows.execute(
        """
        INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source,
            opened_by, content_hash)
        SELECT 'INC-20260508-' || upper(substr(md5($1 || n), 1, 12)), 't', '', 'LOW', 'OPEN', '',
            jsonb_build_object('test', $1::text), '', 'test', ''
        FROM generate_series(1, 1001) AS n
        """,
        mark,
    )
    assert len(await listed(stub, labels={"test": mark})) == 50
    assert len(await listed(stub, labels={"test": mark}, page_size=2**31 - 1)) == 1000


async def test_a_page_of_large_incidents_fits_into_the_default_message_limit(
    stub: "Stub", rows: "Rows"
) -> None:
    """The contract allows a page that is shorter than requested; the default limit of a client is 4 MiB."""
    mark = token()
    await rows.execute(
        """
        INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source,
            opened_by, content_hash)
        SELECT 'INC-20260509-' || upper(substr(md5($1 || n), 1, 12)), 't', repeat('x', 8192), 'LOW', 'OPEN', '',
            jsonb_build_object('test', $1::text), '', 'test', ''
        FROM generate_series(1, 700) AS n
        """,
        mark,
    )
    found = await pages(stub, pb.ListRequest(labels={"test": mark}), 1000)
    assert len({one for page in found for one in page}) == 700


async def token_of(stub: "Stub", request: pb.ListRequest) -> str:
    asked = pb.ListRequest()
    asked.CopyFrom(request)
    asked.page_size = 1
    answer = await stub.List(asked)
    assert answer.next_page_token
    return answer.next_page_token


async def test_a_page_token_is_bound_to_its_filter_and_order(stub: "Stub") -> None:
    mark = {"test": token()}
    for _ in range(3):
        await opened(stub, labels=mark)
    given = await token_of(stub, pb.ListRequest(labels=mark))
    assert await listed(stub, labels=mark, page_size=7, page_token=given)
    others: list[dict[str, Any]] = [
        {},
        {"labels": {"test": "other"}},
        {"labels": mark, "states": [OPEN]},
        {"labels": mark, "order": Order.ORDER_CREATE_TIME_ASC},
        {"labels": mark, "stuck": True},
        {"labels": mark, "fingerprint": "x"},
    ]
    for other in others:
        refusal = await refused(stub.List(pb.ListRequest(page_token=given, **other)))
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",)), other


@pytest.mark.parametrize(
    "forge",
    [
        lambda token: token[:-1],
        lambda token: "A" + token[1:] if token[0] != "A" else "B" + token[1:],
        lambda token: token[:30] + ("A" if token[30] != "A" else "B") + token[31:],
        lambda token: token + token,
        lambda _token: "AAAA",
    ],
    ids=["cut", "other signature", "other position", "twice", "made up"],
)
async def test_a_forged_page_token_is_refused(stub: "Stub", forge: Callable[[str], str]) -> None:
    mark = {"test": token()}
    for _ in range(2):
        await opened(stub, labels=mark)
    given = await token_of(stub, pb.ListRequest(labels=mark))
    refusal = await refused(stub.List(pb.ListRequest(labels=mark, page_token=forge(given))))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))


async def test_a_page_token_of_another_list_is_refused(stub: "Stub") -> None:
    mark = {"test": token()}
    incident = await opened(stub, labels=mark)
    await opened(stub, labels=mark)
    given = await token_of(stub, pb.ListRequest(labels=mark))
    refusal = await refused(
        stub.ListEvents(pb.ListEventsRequest(incident_id=incident.incident_id, page_token=given))
    )
    assert refusal.fields == ("page_token",)


async def resolve(stub: "Stub", request: pb.ResolveRequest) -> None:
    await stub.Resolve(request)


async def test_a_list_concurrent_with_resolutions_has_each_incident_once(stub: "Stub") -> None:
    mark = {"test": token()}
    ids = [(await opened(stub, labels=mark)).incident_id for _ in range(20)]
    async with asyncio.TaskGroup() as group:
        listing = group.create_task(pages(stub, pb.ListRequest(labels=mark), 3))
        for one in ids:
            request = pb.ResolveRequest(incident_id=one, resolution_type=NO_ACTION)
            group.create_task(resolve(stub, request))
    found = listing.result()
    assert sorted(one for page in found for one in page) == sorted(ids)
