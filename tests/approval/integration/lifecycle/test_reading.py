"""Get and List: filters, orders, pages and their tokens."""

import base64
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from tests.callers import (
    NO_ACTION,
    RESTART,
    UNPARSABLE,
    Approvals,
    Incidents,
    State,
)
from tests.rpc_errors import refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

Kind = approval_pb2.Operation
Order = pb.ListRequest
UNKNOWN = "APR-20200101-00000000DEAD"


@dataclass(frozen=True)
class Shelf:
    """Approvals of one incident, by a word for each, oldest first."""

    incident_id: str
    ids: dict[str, str]

    def names(self, found: Sequence[approval_pb2.Approval]) -> list[str]:
        """The words of what was found, in its order."""
        words = {approval_id: word for word, approval_id in self.ids.items()}
        return [words[approval.approval_id] for approval in found]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shelf(approvals: Approvals, incidents: Incidents) -> AsyncIterator[Shelf]:
    incident_id = await incidents.opened_id()
    ids: dict[str, str] = {}
    for word, action, risk in (
        ("pending", NO_ACTION, approval_pb2.RISK_LOW),
        ("approved", RESTART, approval_pb2.RISK_MEDIUM),
        ("rejected", "SCALE deployment/api --replicas=3 -n prod", approval_pb2.RISK_HIGH),
        ("failed", UNPARSABLE, approval_pb2.RISK_CRITICAL),
        ("other", "DELETE pod/x -n prod", approval_pb2.RISK_LOW),
    ):
        ids[word] = (await approvals.proposed(incident_id, action, risk=risk)).approval_id
    await approvals.approve(ids["failed"])
    await approvals.execute(ids["failed"])
    await approvals.approve(ids["approved"])
    await approvals.reject(ids["rejected"])
    yield Shelf(incident_id, ids)


FILTERS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "none": ({}, {"pending", "approved", "rejected", "failed", "other"}),
    "one_state": ({"states": [State.STATE_APPROVED]}, {"approved"}),
    "states": ({"states": [State.STATE_PENDING, State.STATE_FAILED]}, {"pending", "other", "failed"}),
    "a_state_without_any": ({"states": [State.STATE_INDETERMINATE]}, set()),
    "one_risk": ({"risks": [approval_pb2.RISK_LOW]}, {"pending", "other"}),
    "risks": (
        {"risks": [approval_pb2.RISK_HIGH, approval_pb2.RISK_CRITICAL]},
        {"rejected", "failed"},
    ),
    "one_kind": ({"operation_kinds": [Kind.KIND_NO_ACTION]}, {"pending"}),
    "kinds": (
        {"operation_kinds": [Kind.KIND_RESTART, Kind.KIND_SCALE, Kind.KIND_DELETE]},
        {"approved", "rejected", "other"},
    ),
    "all_kinds_leave_out_what_was_not_parsed": (
        {"operation_kinds": Kind.Kind.values()[1:]},
        {"pending", "approved", "rejected", "other"},
    ),
    "filters_together": (
        {
            "states": [State.STATE_PENDING],
            "risks": [approval_pb2.RISK_LOW],
            "operation_kinds": [Kind.KIND_DELETE],
        },
        {"other"},
    ),
}


async def test_an_unknown_approval_is_not_found(approvals: Approvals) -> None:
    refusal = await refused(approvals.get(UNKNOWN))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "APPROVAL_NOT_FOUND")
    assert refusal.resource == ("awoooi.approval.v1.Approval", UNKNOWN)


@pytest.mark.parametrize(("narrow", "words"), FILTERS.values(), ids=FILTERS)
async def test_a_list_has_what_matches_every_criterion(
    approvals: Approvals, shelf: Shelf, narrow: dict[str, Any], words: set[str]
) -> None:
    found = await approvals.list(incident_id=shelf.incident_id, **narrow).page()
    assert set(shelf.names(found.approvals)) == words
    assert len(found.approvals) == len(words)


async def test_an_approval_is_the_same_in_a_list(approvals: Approvals, shelf: Shelf) -> None:
    for approval in (await approvals.list(incident_id=shelf.incident_id).page()).approvals:
        assert approval == await approvals.get(approval.approval_id)


async def test_approvals_are_filtered_by_create_time(approvals: Approvals, shelf: Shelf) -> None:
    start = (await approvals.get(shelf.ids["approved"])).create_time
    end = (await approvals.get(shelf.ids["failed"])).create_time
    found = await approvals.list(
        incident_id=shelf.incident_id,
        create_time_start=start,
        create_time_end=end,
        order=Order.ORDER_CREATE_TIME_ASC,
    ).page()
    assert shelf.names(found.approvals) == ["approved", "rejected"]


ORDERS = {
    "unspecified": (Order.ORDER_UNSPECIFIED, ["other", "failed", "rejected", "approved", "pending"]),
    "newest_first": (Order.ORDER_CREATE_TIME_DESC, ["other", "failed", "rejected", "approved", "pending"]),
    "oldest_first": (Order.ORDER_CREATE_TIME_ASC, ["pending", "approved", "rejected", "failed", "other"]),
    "latest_change_first": (
        Order.ORDER_UPDATE_TIME_DESC,
        ["rejected", "approved", "failed", "other", "pending"],
    ),
}


@pytest.mark.parametrize(("order", "words"), ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("page_size", [1, 2, 5, 1000])
async def test_pages_of_every_order_have_no_gap_and_no_repetition(
    approvals: Approvals,
    shelf: Shelf,
    order: pb.ListRequest.Order.ValueType,
    words: list[str],
    page_size: int,
) -> None:
    found: list[approval_pb2.Approval] = []
    token = ""
    while True:
        page = await approvals.list(
            incident_id=shelf.incident_id, order=order, page_size=page_size, page_token=token
        ).page()
        assert len(page.approvals) <= page_size
        found += page.approvals
        token = page.next_page_token
        if not token:
            break
    assert shelf.names(found) == words


async def test_a_concurrent_proposal_does_not_shift_pages(approvals: Approvals, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id()
    ids = [(await approvals.proposed(incident_id)).approval_id for _ in range(4)]
    first = await approvals.list(incident_id=incident_id, page_size=2).page()
    await approvals.proposed(incident_id)
    second = await approvals.list(
        incident_id=incident_id, page_size=2, page_token=first.next_page_token
    ).page()
    found = [approval.approval_id for approval in (*first.approvals, *second.approvals)]
    assert found == ids[::-1]
    assert second.next_page_token == ""


async def test_a_token_works_with_another_page_size(approvals: Approvals, shelf: Shelf) -> None:
    first = await approvals.list(incident_id=shelf.incident_id, page_size=1).page()
    rest = await approvals.list(
        incident_id=shelf.incident_id, page_size=50, page_token=first.next_page_token
    ).page()
    assert shelf.names(rest.approvals) == ["failed", "rejected", "approved", "pending"]


async def test_a_token_works_at_another_replica(
    approvals: Approvals, replica: Approvals, shelf: Shelf
) -> None:
    first = await approvals.list(incident_id=shelf.incident_id, page_size=4).page()
    rest = await replica.list(incident_id=shelf.incident_id, page_token=first.next_page_token).page()
    assert shelf.names(rest.approvals) == ["pending"]


OTHER_FILTERS: dict[str, dict[str, Any]] = {
    "without_the_incident": {"incident_id": ""},
    "another_state": {"states": [State.STATE_PENDING]},
    "another_order": {"order": Order.ORDER_CREATE_TIME_ASC},
    "another_risk": {"risks": [approval_pb2.RISK_LOW]},
}


@pytest.mark.parametrize("other", OTHER_FILTERS.values(), ids=OTHER_FILTERS)
async def test_a_token_of_another_filter_is_refused(
    approvals: Approvals, shelf: Shelf, other: dict[str, Any]
) -> None:
    first = await approvals.list(incident_id=shelf.incident_id, page_size=1).page()
    asked = {"incident_id": shelf.incident_id, "page_token": first.next_page_token} | other
    refusal = await refused(approvals.list(**asked).page())
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))


def _forged(token: str) -> str:
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[-3] ^= 1
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


FORGED = {
    "a_word": lambda _: "token",
    "one_letter": lambda _: "A",
    "not_ascii": lambda _: "ü" * 40,
    "position_changed": _forged,
    "cut_off": lambda token: token[:-4],
    "only_the_signature": lambda token: token[:22],
    "longer": lambda token: token + "AAAA",
    "very_long": lambda _: "A" * 4096,
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_a_forged_token_is_refused(approvals: Approvals, shelf: Shelf, forge: Any) -> None:
    first = await approvals.list(incident_id=shelf.incident_id, page_size=1).page()
    token = forge(first.next_page_token)
    refusal = await refused(approvals.list(incident_id=shelf.incident_id, page_token=token).page())
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))


async def test_a_token_of_the_deliveries_is_refused(approvals: Approvals, incidents: Incidents) -> None:
    for _ in range(2):
        await approvals.executed(await incidents.opened_id())
    token = (await approvals.list_deliveries(page_size=1).page()).next_page_token
    assert token
    refusal = await refused(approvals.list(page_token=token).page())
    assert refusal.fields == ("page_token",)
