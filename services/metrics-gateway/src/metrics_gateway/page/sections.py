"""The figures of all sources put together: each section, or why it is unknown."""

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
    ResolutionStats,
    SideEffectStats,
)
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse as Answer
from metrics_gateway.page.formatting import clock, failure
from metrics_gateway.sources.source import Reading

M = TypeVar("M", bound=Message)

# The source that has a section where nobody named the sources otherwise.
_INCIDENT = "incident"
_APPROVAL = "approval"


@dataclass(frozen=True, slots=True)
class Known(Generic[M]):
    """A section that a source filled."""

    stats: M
    # By the source's clock, which all times in the section are by.
    read_time: datetime

    def age(self, time: datetime) -> float:
        """Return how many seconds ago a time of this section was when the section was read."""
        return (self.read_time - time).total_seconds()


@dataclass(frozen=True, slots=True)
class Unknown:
    """A section that no source filled, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Sections:
    """All sections."""

    executions: Known[ExecutionStats] | Unknown
    approvals: Known[ApprovalStats] | Unknown
    deliveries: Known[DeliveryStats] | Unknown
    incidents: Known[IncidentStats] | Unknown
    resolutions: Known[ResolutionStats] | Unknown
    side_effects: Known[SideEffectStats] | Unknown


def merge(readings: Sequence[Reading], now: datetime) -> Sections:
    """Return each section from the source named first, of those that filled it."""

    def section(usual: str, field: str, read: Callable[[Answer], M]) -> Known[M] | Unknown:
        for reading in readings:
            answer = reading.answer
            if answer is not None and field in {filled.name for filled, _ in answer.ListFields()}:
                return Known(read(answer), answer.read_time.ToDatetime(tzinfo=UTC))
        return Unknown(_why_unknown(readings, usual, now))

    return Sections(
        executions=section(_APPROVAL, "executions", lambda answer: answer.executions),
        approvals=section(_APPROVAL, "approvals", lambda answer: answer.approvals),
        deliveries=section(_APPROVAL, "deliveries", lambda answer: answer.deliveries),
        incidents=section(_INCIDENT, "incidents", lambda answer: answer.incidents),
        resolutions=section(_INCIDENT, "resolutions", lambda answer: answer.resolutions),
        side_effects=section(_INCIDENT, "side_effects", lambda answer: answer.side_effects),
    )


def why_down(reading: Reading, now: datetime) -> str:
    """Return in a sentence, without its full stop, what is wrong with a source that gave no answer, and since when."""
    does = f"the {reading.source} service {what_it_does(reading)}"
    if reading.failing is None:
        return does
    return f"{does} since {clock(datetime.fromtimestamp(reading.since_timestamp, UTC), now)}"


def what_it_does(reading: Reading) -> str:
    """Return what a source does that gave no answer: the rest of a sentence that begins with its name."""
    # Without a failure its request goes on; how it ends, a later reading knows.
    return "has not answered yet" if reading.failing is None else failure(reading.failing)


def _why_unknown(readings: Sequence[Reading], usual: str, now: datetime) -> str:
    down = [reading for reading in readings if reading.answer is None]
    # Whoever gave the sources other names may have the section in any of those that are down.
    blamed = [reading for reading in down if reading.source == usual] or (
        [] if any(reading.source == usual for reading in readings) else down
    )
    return "; ".join(why_down(reading, now) for reading in blamed) or "no source keeps these figures"
