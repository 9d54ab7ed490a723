"""Timestamps: the same moment on both sides."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from servicekit.rpc.timestamps import from_timestamp, to_timestamp

MOMENTS = [
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 5, 7, 12, 0, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(2026, 5, 7, 12, tzinfo=timezone(timedelta(hours=9))),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_a_moment_is_what_protobuf_itself_makes_of_it_and_comes_back(moment: datetime) -> None:
    expected = Timestamp()
    expected.FromDatetime(moment)
    assert to_timestamp(moment) == expected
    assert from_timestamp(expected) == moment
    assert from_timestamp(expected).tzinfo is UTC


@pytest.mark.parametrize("nanos", [-1, 1_000_000_000, -(2**31), 2**31 - 1])
def test_nanos_that_no_timestamp_has_are_refused(nanos: int) -> None:
    with pytest.raises(ValueError, match="nanos"):
        from_timestamp(Timestamp(seconds=1, nanos=nanos))


def test_what_is_finer_than_a_microsecond_is_cut_off() -> None:
    assert from_timestamp(Timestamp(nanos=1_999)) == datetime(1970, 1, 1, microsecond=1, tzinfo=UTC)
