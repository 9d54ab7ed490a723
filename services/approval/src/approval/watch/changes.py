"""Changes of approvals, and the filter of a watcher."""

from dataclasses import dataclass
from datetime import datetime

from approval.model import Approval, State
from servicekit.watch.model import Position, Witness

# The size of an approval besides its texts.
_CHARACTERS = 3_000


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A change of an approval, which is as it was then or later, with the state before (None: it was proposed) and after it.

    A change of anything else, such as a decision that does not reach the quorum, has the same state before and after.
    """

    approval: Approval
    sequence: int
    state_before: State | None
    state_after: State
    change_time: datetime
    position: Position

    @property
    def change_id(self) -> str:
        """The id of the change, the same whenever it is read."""
        return f"{self.approval.approval_id}/{self.sequence}"

    @property
    def witness(self) -> Witness:
        """What a database must have that has not lost it."""
        return Witness(str(self.sequence), self.approval.approval_id, self.change_time)

    @property
    def characters(self) -> int:
        """About how much memory it takes."""
        approval = self.approval
        return (
            _CHARACTERS
            + len(approval.action)
            + len(approval.rationale)
            + len(approval.outcome_message)
            + sum(len(decision.reason) for decision in approval.decisions)
        )


@dataclass(frozen=True, slots=True)
class WatchFilter:
    """The criteria of a watcher; an empty field is no criterion."""

    states: tuple[State, ...] = ()
    incident_id: str = ""
    approval_id: str = ""

    def matches(self, change: Change) -> bool:
        """Return whether a change matches: its approval was in one of the states before or after it, and matches the rest."""
        if self.states and not {change.state_before, change.state_after}.intersection(self.states):
            return False
        return self._matches_ids(change.approval)

    def matches_approval(self, approval: Approval) -> bool:
        """Return whether an approval matches in its present state."""
        return (not self.states or approval.state in self.states) and self._matches_ids(approval)

    def _matches_ids(self, approval: Approval) -> bool:
        if self.incident_id and approval.incident_id != self.incident_id:
            return False
        return not self.approval_id or approval.approval_id == self.approval_id
