"""When a source's answer can be believed."""

import math
from collections.abc import Iterable
from itertools import pairwise

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.flywheel.v1.flywheel_stats_pb2 import Histogram
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse

# The longest list by contract is far below this, also once some enum has grown.
_MAX_ENTRIES = 128
_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_DOUBLE,
}


class NonsenseError(Exception):
    """The source answered something that its contract rules out."""


def check_answer(answer: GetFlywheelStatsResponse | None) -> GetFlywheelStatsResponse:
    """Return the answer if all of it can be exposed.

    Raises NonsenseError, naming the field and never its value, when the answer could not be parsed (None is what grpc.aio
    returns then), is empty, or holds a number, a list or a distribution that no honest source sends. Unknown enum numbers
    are no nonsense: a newer source may know more than this gateway.
    """
    if answer is None:
        raise NonsenseError("not a GetFlywheelStatsResponse")
    # Always set by contract, and what tells an answer from no bytes at all, which parse as well.
    if not answer.HasField("read_time"):
        raise NonsenseError("read_time: missing")
    _check_fields(answer)
    if answer.executions.success_rate > 1:
        raise NonsenseError("executions.success_rate: above 1")
    if answer.resolutions.HasField("resolution_seconds"):
        _check_histogram(answer.resolutions.resolution_seconds)
    return answer


def _check_fields(message: Message, path: str = "") -> None:
    for field, value in message.ListFields():
        here = f"{path}{field.name}"
        if field.is_repeated and len(value) > _MAX_ENTRIES:
            raise NonsenseError(f"{here}: more than {_MAX_ENTRIES} entries")
        if field.message_type is not None:
            entries: Iterable[Message] = value if field.is_repeated else (value,)
            for entry in entries:
                _check_fields(entry, f"{here}.")
                _check_time(entry, here)
            if field.is_repeated:
                _check_distinct(value, here)
        elif field.cpp_type in _NUMBERS and not (math.isfinite(value) and value >= 0):
            raise NonsenseError(f"{here}: negative or not finite")


def _check_time(message: Message, path: str) -> None:
    try:
        if isinstance(message, Timestamp):
            message.ToDatetime()
        elif isinstance(message, Duration):
            message.ToTimedelta()
    except (ValueError, OverflowError) as exc:
        raise NonsenseError(f"{path}: beyond the range of a time") from exc


def _check_distinct(entries: Iterable[Message], path: str) -> None:
    """Refuse a list of counts that counts the same thing twice: which of the two is true?"""
    seen: set[tuple[int, ...]] = set()
    for entry in entries:
        fields = entry.DESCRIPTOR.fields
        enums = [field for field in fields if field.enum_type is not None]
        if not enums or "count" not in entry.DESCRIPTOR.fields_by_name:
            return
        key = tuple(getattr(entry, field.name) for field in enums)
        if key in seen:
            raise NonsenseError(f"{path}: the same count twice")
        seen.add(key)


def _check_histogram(histogram: Histogram) -> None:
    bounds = [bucket.upper_bound for bucket in histogram.buckets]
    counts = [bucket.cumulative_count for bucket in histogram.buckets] + [histogram.count]
    if any(left >= right for left, right in pairwise(bounds)):
        raise NonsenseError("resolutions.resolution_seconds: bounds do not ascend")
    if any(left > right for left, right in pairwise(counts)):
        raise NonsenseError("resolutions.resolution_seconds: cumulative counts fall")
