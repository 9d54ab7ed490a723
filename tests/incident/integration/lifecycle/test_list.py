"""Get and List: criteria, order, pages, page tokens."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.callers import Incidents
from tests.incident.incidents import HUMAN, INVESTIGATING, NO_ACTION, OPEN, RESOLVED, UNKNOWN_ID, token
from tests.rpc_errors import refused

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

Order = pb.ListRequest.Order


async def pages(incidents: Incidents, **fields: Any) -> list[list[str]]:
    """The ids on every page."""
    return [
        [incident.incident_id for incident in page.incidents]
        async for page in incidents.list(**fields).pages()
    ]


async def listed(incidents: Incidents, **fields: Any) -> list[str]:
    """The ids on the first page."""
    return [incident.incident_id for incident in (await incidents.list(**fields).page()).incidents]


async def test_an_unknown_incident_is_not_found(incidents: Incidents) -> None:
    refusal = await refused(incidents.get(UNKNOWN_ID))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
    assert refusal.resource == ("awoooi.incident.v1.Incident", UNKNOWN_ID)
    refusal = await refused(incidents.list_events(UNKNOWN_ID).page())
    assert refusal.code is grpc.StatusCode.NOT_FOUND


async def test_every_criterion_filters_and_criteria_are_combined(incidents: Incidents) -> None:
    mark = {"test": token()}
    high = await incidents.opened(labels=mark | {"zone": "a"})
    low = await incidents.opened(
        labels=mark | {"zone": "b"}, severity=incident_pb2.SEVERITY_LOW, fingerprint=token()
    )
    started = await incidents.opened(labels=mark)
    await incidents.start_investigation(started.incident_id)
    done = await incidents.resolved(labels=mark)
    names = {
        high.incident_id: "high",
        low.incident_id: "low",
        started.incident_id: "started",
        done.incident_id: "done",
    }

    async def found(**fields: Any) -> set[str]:
        labels = mark | fields.pop("labels", {})
        return {names[one] for one in await listed(incidents, labels=labels, **fields)}

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
    incidents: Incidents, rows: "Rows"
) -> None:
    mark = {"test": token()}
    old, _fresh, done = [await incidents.opened(labels=mark) for _ in range(3)]
    await incidents.resolve(done.incident_id, resolution_type=HUMAN)
    await rows.execute(
        "UPDATE incidents SET last_progress_time = now() - interval '31 minutes' WHERE incident_id = ANY ($1)",
        [old.incident_id, done.incident_id],
    )
    assert await listed(incidents, labels=mark, stuck=True) == [old.incident_id]


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
    incidents: Incidents, rows: "Rows", order: tuple[Any, str, bool], page_size: int
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
    found = await pages(incidents, labels={"test": mark}, order=number, page_size=page_size)
    assert [one for page in found for one in page] == expected
    assert all(len(page) == page_size for page in found[:-1])


async def test_incidents_opened_between_pages_do_not_shift_the_next_pages(incidents: Incidents) -> None:
    mark = {"test": token()}
    ids = [(await incidents.opened(labels=mark)).incident_id for _ in range(6)]
    first = await incidents.list(labels=mark, page_size=3).page()
    await incidents.opened(labels=mark)
    rest = await incidents.list(labels=mark, page_size=3, page_token=first.next_page_token).page()
    found = [incident.incident_id for answer in (first, rest) for incident in answer.incidents]
    assert found == ids[::-1]


async def test_the_page_size_is_fifty_by_default_and_at_most_a_thousand(
    incidents: Incidents, rows: "Rows"
) -> None:
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
    assert len(await listed(incidents, labels={"test": mark})) == 50
    assert len(await listed(incidents, labels={"test": mark}, page_size=2**31 - 1)) == 1000


async def test_a_page_of_large_incidents_fits_into_the_default_message_limit(
    incidents: Incidents, rows: "Rows"
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
    found = await pages(incidents, labels={"test": mark}, page_size=1000)
    assert len({one for page in found for one in page}) == 700


async def token_of(incidents: Incidents, labels: Mapping[str, str]) -> str:
    page = await incidents.list(labels=labels, page_size=1).page()
    assert page.next_page_token
    return page.next_page_token


async def test_a_page_token_is_bound_to_its_filter_and_order(incidents: Incidents) -> None:
    mark = {"test": token()}
    for _ in range(3):
        await incidents.opened(labels=mark)
    given = await token_of(incidents, mark)
    assert await listed(incidents, labels=mark, page_size=7, page_token=given)
    others: list[dict[str, Any]] = [
        {},
        {"labels": {"test": "other"}},
        {"labels": mark, "states": [OPEN]},
        {"labels": mark, "order": Order.ORDER_CREATE_TIME_ASC},
        {"labels": mark, "stuck": True},
        {"labels": mark, "fingerprint": "x"},
    ]
    for other in others:
        refusal = await refused(incidents.list(page_token=given, **other).page())
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
async def test_a_forged_page_token_is_refused(incidents: Incidents, forge: Callable[[str], str]) -> None:
    mark = {"test": token()}
    for _ in range(2):
        await incidents.opened(labels=mark)
    given = await token_of(incidents, mark)
    refusal = await refused(incidents.list(labels=mark, page_token=forge(given)).page())
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))


async def test_a_page_token_of_another_list_is_refused(incidents: Incidents) -> None:
    mark = {"test": token()}
    incident = await incidents.opened(labels=mark)
    await incidents.opened(labels=mark)
    given = await token_of(incidents, mark)
    refusal = await refused(incidents.list_events(incident.incident_id, page_token=given).page())
    assert refusal.fields == ("page_token",)


async def test_a_list_concurrent_with_resolutions_has_each_incident_once(incidents: Incidents) -> None:
    mark = {"test": token()}
    ids = [(await incidents.opened(labels=mark)).incident_id for _ in range(20)]
    async with asyncio.TaskGroup() as group:
        listing = group.create_task(pages(incidents, labels=mark, page_size=3))
        for one in ids:
            group.create_task(incidents.resolve(one, resolution_type=NO_ACTION))
    found = listing.result()
    assert sorted(one for page in found for one in page) == sorted(ids)
