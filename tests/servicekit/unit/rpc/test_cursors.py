"""Pagination cursors: they come back for the same filter, and for no other."""

from datetime import UTC, datetime, timedelta

import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.rpc.cursors import (
    filter_bytes,
    page_size,
    read_cursor,
    read_id_cursor,
    read_time_cursor,
    write_cursor,
    write_id_cursor,
    write_time_cursor,
)
from servicekit.rpc.page_tokens import InvalidPageTokenError, PageTokens

TIME = datetime(2026, 5, 7, 10, 0, 0, 123_456, tzinfo=UTC)


@pytest.fixture
def tokens() -> PageTokens:
    made = PageTokens()
    made.key = b"k" * 32
    return made


@pytest.mark.parametrize(
    ("requested", "given"), [(0, 50), (1, 1), (50, 50), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)]
)
def test_a_page_has_50_items_by_default_and_1000_at_most(requested: int, given: int) -> None:
    assert page_size(requested) == given


def test_the_first_page_has_no_cursor_and_the_last_page_has_no_token(tokens: PageTokens) -> None:
    request = pb.ListRequest()
    assert read_cursor(request, tokens) is None
    assert read_id_cursor(request, tokens) is None
    assert read_time_cursor(request, tokens) is None
    assert write_cursor(request, None, tokens) == ""
    assert write_id_cursor(request, None, tokens) == ""
    assert write_time_cursor(request, None, tokens) == ""


@pytest.mark.parametrize("time", [TIME, TIME - timedelta(days=400_000)], ids=str)
def test_a_time_comes_back_to_the_microsecond_with_any_page_size(tokens: PageTokens, time: datetime) -> None:
    token = write_time_cursor(pb.ListRequest(fingerprint="a", page_size=2), (time, "INC-1"), tokens)
    request = pb.ListRequest(fingerprint="a", page_size=9, page_token=token)
    assert read_time_cursor(request, tokens) == (time, "INC-1")


def test_a_number_comes_back(tokens: PageTokens) -> None:
    token = write_id_cursor(pb.ListSideEffectsRequest(), 2**62, tokens)
    assert read_id_cursor(pb.ListSideEffectsRequest(page_token=token), tokens) == 2**62


@pytest.mark.parametrize(
    "other",
    [pb.ListRequest(fingerprint="b"), pb.ListRequest(labels={"a": "b"}), pb.ListEventsRequest()],
    ids=repr,
)
def test_a_cursor_of_another_filter_or_request_is_refused(
    tokens: PageTokens, other: pb.ListRequest | pb.ListEventsRequest
) -> None:
    other.page_token = write_id_cursor(pb.ListRequest(fingerprint="a"), 1, tokens)
    with pytest.raises(InvalidPageTokenError):
        read_id_cursor(other, tokens)


def test_the_filter_is_every_field_but_those_named() -> None:
    one = pb.ListRequest(fingerprint="a", labels={"x": "1", "y": "2"}, page_size=3)
    two = pb.ListRequest(fingerprint="a", labels={"y": "2", "x": "1"}, page_size=4)
    assert filter_bytes(one, "page_size") == filter_bytes(two, "page_size")
    assert filter_bytes(one) != filter_bytes(two)
