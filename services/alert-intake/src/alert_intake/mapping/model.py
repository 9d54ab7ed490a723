"""What an incident gets from an alert."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Grouping(Enum):
    """What one incident is about."""

    ALERT = "alert"
    GROUP = "group"


class Severity(Enum):
    """The severities of the incident service, most urgent first."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"
    INFO = "INFO"


@dataclass(frozen=True, slots=True)
class Source:
    """A label or an annotation of an alert."""

    annotation: bool
    name: str


@dataclass(frozen=True, slots=True)
class ReceiverMapping:
    """How the alerts of one receiver become incidents."""

    grouping: Grouping
    # The first that is there and not blank is taken.
    title: Sequence[Source]
    description: Sequence[Source]
    severity: Sequence[Source]
    # From what alerts say, in lower case, to severities.
    severities: Mapping[str, Severity]
    # Of an alert that says nothing, or something that is not among `severities`.
    default_severity: Severity
    # Which labels an incident gets; None for all.
    labels: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class AlertMapping:
    """The mapping of every receiver."""

    default: ReceiverMapping
    receivers: Mapping[str, ReceiverMapping]

    def of(self, receiver: str) -> ReceiverMapping:
        """Return the mapping of a receiver: its own, or the default."""
        return self.receivers.get(receiver, self.default)
