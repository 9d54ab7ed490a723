"""Arguments in Python's own types: enum values by name without their prefix, times as datetime, spans as timedelta."""

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeAlias, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as approval_service
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_service
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as incident_service

# The numbers are taken, too: `incident_pb2.SEVERITY_HIGH` as well as "HIGH".
Severity: TypeAlias = incident_pb2.Severity.ValueType | Literal["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFO"]
IncidentState: TypeAlias = (
    incident_pb2.Incident.State.ValueType | Literal["OPEN", "INVESTIGATING", "RESOLVED"]
)
IncidentOrder: TypeAlias = (
    incident_service.ListRequest.Order.ValueType
    | Literal["CREATE_TIME_DESC", "CREATE_TIME_ASC", "UPDATE_TIME_DESC", "LAST_PROGRESS_TIME_ASC"]
)
ResolutionType: TypeAlias = (
    incident_pb2.ResolutionType.ValueType
    | Literal["NO_ACTION", "AUTO_REPAIRED", "HUMAN", "DUPLICATE", "FALSE_POSITIVE", "EXPIRED_ALERT"]
)
EventType: TypeAlias = (
    incident_pb2.IncidentEvent.Type.ValueType
    | Literal[
        "OPENED",
        "DEDUPLICATED",
        "INVESTIGATION_STARTED",
        "PROPOSED",
        "APPROVED",
        "REJECTED",
        "EXPIRED",
        "CANCELLED",
        "EXECUTED",
        "EXECUTION_FAILED",
        "RESOLVED",
        "REOPENED",
        "EFFECT_DONE",
        "EFFECT_PARKED",
        "EFFECT_SKIPPED",
        "NOTE",
        "RECOVERED",
        "NOT_RECOVERED",
        "EXECUTION_STARTED",
    ]
)
Effect: TypeAlias = (
    incident_pb2.SideEffect.Effect.ValueType
    | Literal["POSTMORTEM", "KNOWLEDGE", "DISPOSITION", "NOTIFICATION", "WEBHOOK"]
)
SideEffectState: TypeAlias = (
    incident_pb2.SideEffect.State.ValueType | Literal["PENDING", "DONE", "PARKED", "SKIPPED", "DISMISSED"]
)
Risk: TypeAlias = approval_pb2.Risk.ValueType | Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
ApprovalState: TypeAlias = (
    approval_pb2.Approval.State.ValueType
    | Literal[
        "PENDING",
        "APPROVED",
        "REJECTED",
        "EXPIRED",
        "CANCELLED",
        "EXECUTING",
        "SUCCEEDED",
        "FAILED",
        "INDETERMINATE",
    ]
)
Recovery: TypeAlias = (
    approval_pb2.Recovery.ValueType | Literal["PENDING", "VERIFIED", "NOT_RECOVERED", "UNVERIFIED"]
)
ApprovalOrder: TypeAlias = (
    approval_service.ListRequest.Order.ValueType
    | Literal["CREATE_TIME_DESC", "CREATE_TIME_ASC", "UPDATE_TIME_DESC"]
)
OperationKind: TypeAlias = (
    approval_pb2.Operation.Kind.ValueType
    | Literal["NO_ACTION", "RESTART", "SCALE", "DELETE", "ROLLBACK", "HTTP"]
)
DeliveryState: TypeAlias = (
    approval_pb2.Delivery.State.ValueType | Literal["PENDING", "DONE", "PARKED", "DISMISSED"]
)
DeliveryTopic: TypeAlias = (
    approval_pb2.Delivery.Topic.ValueType
    | Literal["RESOLVE", "TIMELINE", "EXECUTION", "OTHER", "NOTIFICATION"]
)
View: TypeAlias = stats_service.GetFlywheelStatsRequest.View.ValueType | Literal["BASIC", "FULL"]

# A message's own times are taken as they are.
Time: TypeAlias = datetime | Timestamp

Number_co = TypeVar("Number_co", bound=int, covariant=True)


class _Enum(Protocol[Number_co]):
    """A generated enum."""

    def Value(self, name: str) -> Number_co:  # noqa: N802 - protobuf's name
        """Return a value's number. Raises ValueError."""


def enum_value(enum: _Enum[Number_co], prefix: str, value: Number_co | str) -> Number_co:
    """Return the number of a value that is given by number or by name. Raises ValueError for an unknown name."""
    return enum.Value(prefix + value) if isinstance(value, str) else value


def enum_values(enum: _Enum[Number_co], prefix: str, values: Iterable[Number_co | str]) -> list[Number_co]:
    """Return the numbers of several values."""
    return [enum_value(enum, prefix, value) for value in values]


def timestamp(time: Time | None) -> Timestamp | None:
    """Return a time for a request. Raises ValueError for one without a zone: protobuf would read it as UTC."""
    if time is None or isinstance(time, Timestamp):
        return time
    if time.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone")
    converted = Timestamp()
    converted.FromDatetime(time)
    return converted


def duration(span: timedelta | None) -> Duration | None:
    """Return a span for a request."""
    if span is None:
        return None
    converted = Duration()
    converted.FromTimedelta(span)
    return converted


def new_id() -> str:
    """Return a value for a request_id or event_id: it makes the retries of one call safe."""
    return str(uuid.uuid4())
