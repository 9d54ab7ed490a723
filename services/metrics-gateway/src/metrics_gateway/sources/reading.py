"""The result of reading one source: its response, or why there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.message import Message

from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse


class Reason(StrEnum):
    """Why a source could not be read: the closed set of the label `reason`."""

    UNAVAILABLE = "unavailable"  # No connection, or it broke, or the source has no database.
    DEADLINE = "deadline"  # No response in time.
    INVALID_RESPONSE = "invalid_answer"  # A response that violates the contract.
    UNIMPLEMENTED = "unimplemented"  # Another program listens there, or a version without stats.
    PERMISSION = "permission"  # The source denies this gateway access.
    INTERNAL = "internal"  # The source failed; its own log has the cause.
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of one read of one source."""

    source: str
    # None when the source is down: it failed, did not respond in time, or returned an invalid response.
    response: GetFlywheelStatsResponse | None
    # How long the reader waited, in seconds.
    duration_seconds: float
    # Time of the latest valid response, in seconds since 1970; 0 if there was none.
    last_success_timestamp: float
    # Failed requests since the gateway started.
    errors: Mapping[Reason, int]
    # Why the latest finished request failed; None if it succeeded, or none has finished.
    failing: Reason | None = None
    # Start of the current run of successes or of failures, in seconds since 1970; 0 if no request has finished.
    since_timestamp: float = 0.0


def with_section(readings: Sequence[Reading], section: str) -> Sequence[tuple[str, GetFlywheelStatsResponse]]:
    """Return the sources whose response has `section` set, each with its response, in order of the configuration.

    A section has one owner. Where two sources fill it, the first one counts.
    """
    found = []
    for reading in readings:
        message: Message | None = reading.response  # whose HasField takes any name
        if reading.response is not None and message is not None and message.HasField(section):
            found.append((reading.source, reading.response))
    return found
