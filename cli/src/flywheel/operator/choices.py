"""The values of flags, as the contract names them without their prefix, in small letters.

As enums of Python, which typer and the type checker read. A test compares them with the contract's.
"""

from collections.abc import Iterable
from enum import StrEnum, auto


def names(chosen: Iterable[StrEnum] | None) -> list[str]:
    """Return the names in the contract of what was chosen."""
    return [each.name for each in chosen or ()]


class Severity(StrEnum):
    """awoooi.incident.v1.Severity."""

    CRITICAL = auto()
    HIGH = auto()
    MEDIUM = auto()
    LOW = auto()
    INFO = auto()


class IncidentState(StrEnum):
    """awoooi.incident.v1.Incident.State."""

    OPEN = auto()
    INVESTIGATING = auto()
    RESOLVED = auto()


class IncidentOrder(StrEnum):
    """awoooi.incident.v1.ListRequest.Order."""

    CREATE_TIME_DESC = auto()
    CREATE_TIME_ASC = auto()
    UPDATE_TIME_DESC = auto()
    LAST_PROGRESS_TIME_ASC = auto()


class ResolutionType(StrEnum):
    """awoooi.incident.v1.ResolutionType."""

    NO_ACTION = auto()
    AUTO_REPAIRED = auto()
    HUMAN = auto()
    DUPLICATE = auto()
    FALSE_POSITIVE = auto()
    EXPIRED_ALERT = auto()


class EventType(StrEnum):
    """awoooi.incident.v1.IncidentEvent.Type."""

    OPENED = auto()
    DEDUPLICATED = auto()
    INVESTIGATION_STARTED = auto()
    PROPOSED = auto()
    APPROVED = auto()
    REJECTED = auto()
    EXPIRED = auto()
    CANCELLED = auto()
    EXECUTION_STARTED = auto()
    EXECUTED = auto()
    EXECUTION_FAILED = auto()
    RESOLVED = auto()
    REOPENED = auto()
    EFFECT_DONE = auto()
    EFFECT_PARKED = auto()
    EFFECT_SKIPPED = auto()
    NOTE = auto()
    RECOVERED = auto()
    NOT_RECOVERED = auto()


class Effect(StrEnum):
    """awoooi.incident.v1.SideEffect.Effect."""

    POSTMORTEM = auto()
    KNOWLEDGE = auto()
    DISPOSITION = auto()
    NOTIFICATION = auto()
    WEBHOOK = auto()


class EffectState(StrEnum):
    """awoooi.incident.v1.SideEffect.State."""

    PENDING = auto()
    DONE = auto()
    PARKED = auto()
    SKIPPED = auto()
    DISMISSED = auto()


class Risk(StrEnum):
    """awoooi.approval.v1.Risk."""

    LOW = auto()
    MEDIUM = auto()
    HIGH = auto()
    CRITICAL = auto()


class ApprovalState(StrEnum):
    """awoooi.approval.v1.Approval.State."""

    PENDING = auto()
    APPROVED = auto()
    REJECTED = auto()
    EXPIRED = auto()
    CANCELLED = auto()
    EXECUTING = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    INDETERMINATE = auto()


class ApprovalOrder(StrEnum):
    """awoooi.approval.v1.ListRequest.Order."""

    CREATE_TIME_DESC = auto()
    CREATE_TIME_ASC = auto()
    UPDATE_TIME_DESC = auto()


class OperationKind(StrEnum):
    """awoooi.approval.v1.Operation.Kind."""

    NO_ACTION = auto()
    RESTART = auto()
    SCALE = auto()
    DELETE = auto()
    ROLLBACK = auto()
    HTTP = auto()


class Recovery(StrEnum):
    """awoooi.approval.v1.Recovery."""

    PENDING = auto()
    VERIFIED = auto()
    NOT_RECOVERED = auto()
    UNVERIFIED = auto()


class DeliveryState(StrEnum):
    """awoooi.approval.v1.Delivery.State."""

    PENDING = auto()
    DONE = auto()
    PARKED = auto()
    DISMISSED = auto()


class DeliveryTopic(StrEnum):
    """awoooi.approval.v1.Delivery.Topic."""

    RESOLVE = auto()
    TIMELINE = auto()
    EXECUTION = auto()
    OTHER = auto()
    NOTIFICATION = auto()
