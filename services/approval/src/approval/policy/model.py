"""Auto-approval: the rules of a policy, and which of them approves a proposal."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Protocol
from zoneinfo import ZoneInfo

from approval.model import Operation, OperationKind, Risk, Severity
from approval.policy.routes import Routes


class Proposed(Protocol):
    """What a rule reads of an approval."""

    @property
    def operation(self) -> Operation | None:
        """What the action was parsed as."""

    @property
    def risk(self) -> Risk:
        """Its risk."""

    @property
    def confidence(self) -> float | None:
        """The proposer's confidence."""

    @property
    def required_approvals(self) -> int:
        """How many people have to approve it."""

    @property
    def incident_verified(self) -> bool:
        """Whether the incident service confirmed its incident."""

    @property
    def create_time(self) -> datetime:
        """When it was proposed."""


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """A part of each day by the clocks of a zone: from `start` until before `end`, past midnight if that is earlier."""

    start: time
    end: time
    zone: ZoneInfo

    def contains(self, instant: datetime) -> bool:
        """Return whether the zone's clocks show a time of this part.

        A time that they show twice, at the end of daylight saving time, is in it twice; one that they skip is not.
        """
        shown = instant.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= shown < self.end
        return shown >= self.start or shown < self.end


@dataclass(frozen=True, slots=True)
class Rule:
    """Approves what matches every criterion; one that is None is not applied."""

    name: str
    actions: frozenset[OperationKind]
    risks: frozenset[Risk]
    namespaces: frozenset[str] | None = None
    hooks: frozenset[str] | None = None
    # A proposal without a confidence never matches.
    confidence_at_least: float | None = None
    # An incident that could not be looked up never matches.
    severities: frozenset[Severity] | None = None
    time_of_day: TimeOfDay | None = None

    @property
    def actor(self) -> str:
        """The actor of this rule's decisions."""
        return f"policy:{self.name}"

    def matches(self, approval: Proposed, operation: Operation, severity: Severity | None) -> bool:
        """Return whether every criterion matches; the time of day is that of the approval's creation."""
        return (
            operation.kind in self.actions
            and approval.risk in self.risks
            and (self.namespaces is None or operation.namespace in self.namespaces)
            and (self.hooks is None or operation.hook in self.hooks)
            and (self.confidence_at_least is None or _is_confident(approval, self.confidence_at_least))
            and (self.severities is None or severity in self.severities)
            and (self.time_of_day is None or self.time_of_day.contains(approval.create_time))
        )


def _is_confident(approval: Proposed, minimum: float) -> bool:
    return approval.confidence is not None and approval.confidence >= minimum


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in the order of their file, and the routes of notifications."""

    rules: Sequence[Rule] = ()
    routes: Routes = field(default_factory=Routes)

    def find_rule(self, approval: Proposed, severity: Severity | None) -> Rule | None:
        """Return the first rule that approves a new approval, or None: it waits for a person.

        `severity` is its incident's, None when that is not known. No rule approves an unparsable action, an approval
        that needs several approvers, or an operation for an unverified incident. A NO_ACTION needs no verification: such
        approvals must not pile up while the incident service is unreachable.
        """
        operation = approval.operation
        if operation is None or approval.required_approvals > 1:
            return None
        if not approval.incident_verified and operation.kind is not OperationKind.NO_ACTION:
            return None
        return next((rule for rule in self.rules if rule.matches(approval, operation, severity)), None)
