"""The stats of all sources merged: each section, or why it is unknown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from google.protobuf.message import Message

from awoooi.flywheel.v1.flywheel_stats_pb2 import (
    ApprovalStats,
    DeliveryStats,
    ExecutionStats,
    IncidentStats,
    RecoveryStats,
    ResolutionStats,
    SideEffectStats,
)
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from metrics_gateway.page.formatting import clock, failure
from metrics_gateway.sources.reading import Reading, with_section

M = TypeVar("M", bound=Message)

# The default names of the sources that fill a section.
_INCIDENT = "incident"
_APPROVAL = "approval"


@dataclass(frozen=True, slots=True)
class Known(Generic[M]):
    """A section that a source filled."""

    stats: M
    # By the source's clock, as all times in the section.
    read_time: datetime

    def age(self, time: datetime) -> float:
        """Return the seconds from a time in this section to the reading of the section."""
        return (self.read_time - time).total_seconds()


@dataclass(frozen=True, slots=True)
class Unknown:
    """A section that no source filled, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Sections:
    """All sections."""

    executions: Known[ExecutionStats] | Unknown
    recoveries: Known[RecoveryStats] | Unknown
    approvals: Known[ApprovalStats] | Unknown
    deliveries: Known[DeliveryStats] | Unknown
    incidents: Known[IncidentStats] | Unknown
    resolutions: Known[ResolutionStats] | Unknown
    side_effects: Known[SideEffectStats] | Unknown


def merge(readings: Sequence[Reading], now: datetime) -> Sections:
    """Return each section from the first source that filled it."""

    def section(owner: str, field: str, read: Callable[[GetFlywheelStatsResponse], M]) -> Known[M] | Unknown:
        for _, response in with_section(readings, field):
            return Known(read(response), response.read_time.ToDatetime(tzinfo=UTC))
        return Unknown(_why_unknown(readings, owner, now))

    return Sections(
        executions=section(_APPROVAL, "executions", lambda response: response.executions),
        recoveries=section(_APPROVAL, "recoveries", lambda response: response.recoveries),
        approvals=section(_APPROVAL, "approvals", lambda response: response.approvals),
        deliveries=section(_APPROVAL, "deliveries", lambda response: response.deliveries),
        incidents=section(_INCIDENT, "incidents", lambda response: response.incidents),
        resolutions=section(_INCIDENT, "resolutions", lambda response: response.resolutions),
        side_effects=section(_INCIDENT, "side_effects", lambda response: response.side_effects),
    )


def why_down(reading: Reading, now: datetime) -> str:
    """Return a sentence, without its full stop, on why a source has no response, and since when."""
    failed = f"the {reading.source} service {failure_of(reading)}"
    if reading.failing is None:
        return failed
    return f"{failed} since {clock(datetime.fromtimestamp(reading.since_timestamp, UTC), now)}"


def failure_of(reading: Reading) -> str:
    """Return the failure of a source without a response: the predicate of a sentence about it."""
    # Without a failure its request is still in flight.
    return "has not responded yet" if reading.failing is None else failure(reading.failing)


def _why_unknown(readings: Sequence[Reading], owner: str, now: datetime) -> str:
    down = [reading for reading in readings if reading.response is None]
    # With other names than the defaults, every source that is down may be the owner.
    suspects = [reading for reading in down if reading.source == owner] or (
        [] if any(reading.source == owner for reading in readings) else down
    )
    return "; ".join(why_down(reading, now) for reading in suspects) or "no source has these stats"
