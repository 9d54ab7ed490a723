"""What was decided about past proposals, and what another policy would have decided. Knows no database and no wire."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from approval.model import Operation, Risk, Severity, State
from approval.policy.model import Policy

# Ids of each kind of decision: those of the latest proposals.
_EXAMPLES = 3


class Kind(StrEnum):
    """Who decided about a proposal, and how."""

    # A rule of the policy approved it.
    RULE = "RULE"
    # People decided about it.
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    # It was withdrawn, replaced or left until it expired, or it still waits.
    CANCELLED = "CANCELLED"
    SUPERSEDED = "SUPERSEDED"
    EXPIRED = "EXPIRED"
    PENDING = "PENDING"
    # Of a policy that approves it by no rule.
    PEOPLE = "PEOPLE"
    # It depends on the severity of its incident, which was not stored with the proposals of older versions.
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, order=True)
class Verdict:
    """A decision; `rule` is the name of the rule, empty for what no rule decided."""

    kind: Kind
    rule: str = ""


@dataclass(frozen=True, slots=True)
class PastProposal:
    """A proposal as the policy saw it, and what was decided about it."""

    approval_id: str
    operation: Operation | None
    risk: Risk
    confidence: float | None
    required_approvals: int
    incident_verified: bool
    # None when it was not known, and of proposals of versions that did not store it.
    severity: Severity | None
    create_time: datetime
    decided: Verdict


def decided(  # noqa: PLR0911 - one decision each
    *, rule: str, approvals: int, required_approvals: int, rejected: bool, state: State, superseded: bool
) -> Verdict:
    """Return the decision about an approval with these decisions and this effective state."""
    if rule:
        return Verdict(Kind.RULE, rule)
    if rejected or state is State.REJECTED:
        return Verdict(Kind.REJECTED)
    if approvals >= required_approvals:
        return Verdict(Kind.APPROVED)
    if superseded:
        return Verdict(Kind.SUPERSEDED)
    match state:
        case State.PENDING:
            return Verdict(Kind.PENDING)
        case State.EXPIRED:
            return Verdict(Kind.EXPIRED)
        case State.CANCELLED:
            return Verdict(Kind.CANCELLED)
        case _:
            # Imported: who approved it is not known, that it was is.
            return Verdict(Kind.APPROVED)


def would_decide(policy: Policy, proposal: PastProposal) -> Verdict:
    """Return what a policy would have decided about a proposal when it was made."""
    severities: Iterable[Severity | None] = [proposal.severity]
    if proposal.severity is None and proposal.incident_verified:
        # It was known then, and not stored. What every severity leads to is certain.
        severities = Severity
    rules = {rule.name if rule else "" for rule in (policy.find_rule(proposal, each) for each in severities)}
    if len(rules) > 1:
        return Verdict(Kind.UNKNOWN)
    (name,) = rules
    return Verdict(Kind.RULE, name) if name else Verdict(Kind.PEOPLE)


def is_changed(before: Verdict, after: Verdict) -> bool:
    """Tell whether the new decision is another one: by a rule, by another rule, or no longer by one."""
    if after.kind is Kind.UNKNOWN:
        return False
    return before.rule != after.rule


@dataclass(slots=True)
class Cell:
    """The proposals with one decision before and one after: their number, and the ids of the latest."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


class Replay:
    """Counts what a policy would have decided by what was decided."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._cells: dict[tuple[Verdict, Verdict], Cell] = {}

    def add(self, proposals: Iterable[PastProposal]) -> None:
        """Decide about proposals, which are given in the order of their creation."""
        for proposal in proposals:
            key = (proposal.decided, would_decide(self._policy, proposal))
            cell = self._cells.setdefault(key, Cell())
            cell.count += 1
            cell.examples.append(proposal.approval_id)
            del cell.examples[:-_EXAMPLES]

    @property
    def proposals(self) -> int:
        """The number of proposals."""
        return sum(cell.count for cell in self._cells.values())

    @property
    def changed(self) -> int:
        """The number of those that the policy would have decided otherwise."""
        return sum(cell.count for (before, after), cell in self._cells.items() if is_changed(before, after))

    def cells(self) -> Sequence[tuple[Verdict, Verdict, Cell]]:
        """Return the counts: first what changes, most frequent first."""
        return sorted(
            ((before, after, cell) for (before, after), cell in self._cells.items()),
            key=lambda each: (not is_changed(each[0], each[1]), -each[2].count, each[0], each[1]),
        )
