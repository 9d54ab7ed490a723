"""Which proposals are approved without a person: the rules, and which of them allows a proposal. Knows no file."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from zoneinfo import ZoneInfo

from approval.model import Approval, Operation, OperationKind, Risk, Severity


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """A part of each day by the clocks of a zone: from `start` until before `end`, past midnight if that is earlier."""

    start: time
    end: time
    zone: ZoneInfo

    def contains(self, instant: datetime) -> bool:
        """Tell whether the zone's clocks show a time of this part.

        What they show twice when they are put back is in it twice; what they skip is not in it that day.
        """
        shown = instant.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= shown < self.end
        return shown >= self.start or shown < self.end


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be approved without a person: what fits every criterion. None does not narrow."""

    name: str
    actions: frozenset[OperationKind]
    risks: frozenset[Risk]
    namespaces: frozenset[str] | None = None
    hooks: frozenset[str] | None = None
    # A proposal that does not say how sure it is never fits.
    confidence_at_least: float | None = None
    # An incident that could not be asked for never fits.
    severities: frozenset[Severity] | None = None
    time_of_day: TimeOfDay | None = None

    @property
    def actor(self) -> str:
        """Who decided, where this rule did."""
        return f"policy:{self.name}"

    def fits(self, approval: Approval, operation: Operation, severity: Severity | None) -> bool:
        """Tell whether every criterion fits. It is as late as when the approval was created."""
        return (
            operation.kind in self.actions
            and approval.risk in self.risks
            and (self.namespaces is None or operation.namespace in self.namespaces)
            and (self.hooks is None or operation.hook in self.hooks)
            and (self.confidence_at_least is None or _is_so_sure(approval, self.confidence_at_least))
            and (self.severities is None or severity in self.severities)
            and (self.time_of_day is None or self.time_of_day.contains(approval.create_time))
        )


def _is_so_sure(approval: Approval, least: float) -> bool:
    return approval.confidence is not None and approval.confidence >= least


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in the order of their file."""

    rules: Sequence[Rule] = ()

    def find_rule(self, approval: Approval, severity: Severity | None) -> Rule | None:
        """Return the first rule that approves a new approval, or None: it waits for people.

        `severity` is its incident's, None when that is not known. None approves what could not be parsed; what needs
        several approvers, for then it is people that are asked for; and an operation on an incident that nobody has
        seen. Only observing needs no look: it must not pile up while the incident service is away.
        """
        operation = approval.operation
        if operation is None or approval.required_approvals > 1:
            return None
        if not approval.incident_verified and operation.kind is not OperationKind.NO_ACTION:
            return None
        return next((rule for rule in self.rules if rule.fits(approval, operation, severity)), None)
