"""Validates a source's response before any of it is exposed."""

import math
from collections.abc import Iterable
from itertools import pairwise

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.flywheel.v1.flywheel_stats_pb2 import Histogram
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse

# The longest list of the contract is far below this, also after an enum has grown.
_MAX_ENTRIES = 128
# The fields of a message that counts something; others in a list are things, which may have an enum in common.
_COUNTS = {"count", "dismissed_total"}
_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_DOUBLE,
}


class InvalidResponseError(Exception):
    """The response violates the contract."""


def validate_response(response: GetFlywheelStatsResponse | None) -> GetFlywheelStatsResponse:
    """Return the response if all of it can be exposed.

    Raises InvalidResponseError, which names the field and never its value, when the response could not be parsed (grpc.aio
    then returns None), is empty, or has a number, list or histogram that the contract excludes. Unknown enum numbers are
    valid: a newer source may have more of them than this gateway.
    """
    if response is None:
        raise InvalidResponseError("not a GetFlywheelStatsResponse")
    # Always set by contract; distinguishes a response from an empty one, which parses as well.
    if not response.HasField("read_time"):
        raise InvalidResponseError("read_time: missing")
    _check_fields(response)
    if response.executions.success_rate > 1:
        raise InvalidResponseError("executions.success_rate: above 1")
    if response.recoveries.recovery_rate > 1:
        raise InvalidResponseError("recoveries.recovery_rate: above 1")
    if response.resolutions.HasField("resolution_seconds"):
        _check_histogram(response.resolutions.resolution_seconds)
    return response


def _check_fields(message: Message, path: str = "") -> None:
    for field, value in message.ListFields():
        here = f"{path}{field.name}"
        if field.is_repeated and len(value) > _MAX_ENTRIES:
            raise InvalidResponseError(f"{here}: more than {_MAX_ENTRIES} entries")
        if field.message_type is not None:
            entries: Iterable[Message] = value if field.is_repeated else (value,)
            for entry in entries:
                _check_fields(entry, f"{here}.")
                _check_time(entry, here)
            if field.is_repeated:
                _check_distinct(value, here)
        elif field.cpp_type in _NUMBERS and not (math.isfinite(value) and value >= 0):
            raise InvalidResponseError(f"{here}: negative or not finite")


def _check_time(message: Message, path: str) -> None:
    try:
        if isinstance(message, Timestamp):
            message.ToDatetime()
        elif isinstance(message, Duration):
            message.ToTimedelta()
    except (ValueError, OverflowError) as exc:
        raise InvalidResponseError(f"{path}: beyond the range of a time") from exc


def _check_distinct(entries: Iterable[Message], path: str) -> None:
    """Refuse a list that has two counts for one enum value: either may be wrong."""
    seen: set[tuple[int, ...]] = set()
    for entry in entries:
        fields = entry.DESCRIPTOR.fields
        enums = [field for field in fields if field.enum_type is not None]
        if not enums or not _COUNTS & set(entry.DESCRIPTOR.fields_by_name):
            return
        key = tuple(getattr(entry, field.name) for field in enums)
        if key in seen:
            raise InvalidResponseError(f"{path}: the same count twice")
        seen.add(key)


def _check_histogram(histogram: Histogram) -> None:
    bounds = [bucket.upper_bound for bucket in histogram.buckets]
    counts = [bucket.cumulative_count for bucket in histogram.buckets] + [histogram.count]
    if any(left >= right for left, right in pairwise(bounds)):
        raise InvalidResponseError("resolutions.resolution_seconds: bounds do not ascend")
    if any(left > right for left, right in pairwise(counts)):
        raise InvalidResponseError("resolutions.resolution_seconds: cumulative counts fall")
