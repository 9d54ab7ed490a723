"""datetime to and from google.protobuf.Timestamp."""

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS_PER_MICRO = 1000
_NANOS_PER_SECOND = 1_000_000_000
_SECONDS_PER_DAY = 86_400


def to_timestamp(time: datetime) -> Timestamp:
    """Return the Timestamp of an aware datetime. Several times faster than Timestamp.FromDatetime."""
    since = time - _EPOCH
    return Timestamp(
        seconds=since.days * _SECONDS_PER_DAY + since.seconds, nanos=since.microseconds * _NANOS_PER_MICRO
    )


def from_duration(duration: Duration) -> timedelta:
    """Return a Duration that is not negative, to the microsecond.

    Raises ValueError when its nanos are not those of a valid Duration, or its sign is not the same throughout.
    """
    if duration.seconds < 0 or not 0 <= duration.nanos < _NANOS_PER_SECOND:
        raise ValueError("nanos must be 0 to 999999999, seconds not negative")
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // _NANOS_PER_MICRO)


def from_timestamp(timestamp: Timestamp) -> datetime:
    """Return the UTC datetime of a Timestamp, to the microsecond.

    Raises ValueError when its nanos are not those of a valid Timestamp; its seconds are checked by the rules of the
    field it came in.
    """
    if not 0 <= timestamp.nanos < _NANOS_PER_SECOND:
        raise ValueError("nanos must be 0 to 999999999")
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // _NANOS_PER_MICRO)
