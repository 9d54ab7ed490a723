"""What Watch speaks of: changes, their place in the order of commits, and which of them a watcher wants.

The order of commits is not kept anywhere, and neither a sequence number nor a transaction id is it: both are given out
before the commit, and a transaction may commit late. What can be known is which transactions a look at the database saw
(a snapshot). So changes are read in batches, each what one look saw and the look before did not; a later batch was
committed later. Within a batch they go by sequence number: that is the order in which an incident's changes of state were
committed, for they take theirs under its lock, and it is the order of all transactions of which one began after the other
had ended. Only of two that ran side by side on different incidents may one who was there, and one who reads it later,
see either first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from incident.model import Event, EventType, Incident, Severity, State

# The events that change an incident's state, and the state after each.
STATE_AFTER: Mapping[EventType, State] = {
    EventType.OPENED: State.OPEN,
    EventType.INVESTIGATION_STARTED: State.INVESTIGATING,
    EventType.RESOLVED: State.RESOLVED,
    EventType.REOPENED: State.OPEN,
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The transactions that a look at the database saw: those below `xmax` without the ones `in_progress`."""

    xmin: int
    xmax: int
    in_progress: tuple[int, ...] = ()

    @classmethod
    def parse(cls, written: str) -> Self:
        """Read what PostgreSQL writes for a pg_snapshot: `xmin:xmax:in_progress,…`."""
        xmin, xmax, in_progress = written.split(":")
        return cls(int(xmin), int(xmax), tuple(int(xid) for xid in in_progress.split(",") if xid))

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.in_progress))}"

    def is_older_than(self, other: Self) -> bool:
        """Tell whether `other` was taken later and saw more. Of one database, the later one saw all of the earlier."""
        return (self.xmax, -len(self.in_progress)) < (other.xmax, -len(other.in_progress))


@dataclass(frozen=True, slots=True)
class Position:
    """How far a reader is: all that `since` saw, and of what `until` saw besides everything up to `sequence`."""

    since: Snapshot
    until: Snapshot
    sequence: int

    @classmethod
    def at(cls, snapshot: Snapshot) -> Self:
        """Return the position of one who has all that `snapshot` saw."""
        return cls(snapshot, snapshot, 0)

    @property
    def between_batches(self) -> bool:
        """Whether nothing is left of the batch."""
        return self.since == self.until


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """An event, with its incident at least as new, and the state before (None: there was no incident) and after it.

    Of an event that does not change the state both are the same.
    """

    event: Event
    incident: Incident
    state_before: State | None
    state_after: State
    position: Position


@dataclass(frozen=True, slots=True)
class WatchFilter:
    """What a watcher wants to see; what is empty does not narrow."""

    states: tuple[State, ...] = ()
    severities: tuple[Severity, ...] = ()
    fingerprint: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    incident_id: str = ""

    def lets_change_pass(self, change: Change) -> bool:
        """Tell whether the incident was in one of the states before or after the change, and is one that is watched."""
        if self.states and not {change.state_before, change.state_after}.intersection(self.states):
            return False
        return self._lets_pass(change.incident)

    def lets_incident_pass(self, incident: Incident) -> bool:
        """Tell whether the incident is in one of the states, and is one that is watched."""
        if self.states and incident.state not in self.states:
            return False
        return self._lets_pass(incident)

    def _lets_pass(self, incident: Incident) -> bool:
        if self.incident_id and incident.incident_id != self.incident_id:
            return False
        if self.severities and incident.severity not in self.severities:
            return False
        if self.fingerprint and incident.fingerprint != self.fingerprint:
            return False
        return self.labels.items() <= incident.labels.items()


@dataclass(frozen=True, slots=True)
class Step:
    """One response of a Watch: a change, an existing incident, or (neither) a heartbeat."""

    resume_token: str
    change: Change | None = None
    existing: Incident | None = None


# Writes a position as the token of one watcher, bound to its filter.
MakeToken = Callable[[Position], str]


def states_around(event: EventType, latest: Sequence[EventType]) -> tuple[State | None, State]:
    """Return the states before and after an event, given the latest changes of state up to and with it, newest first.

    An incident whose opening is not on the timeline counts as opened.
    """
    states: list[State | None] = [STATE_AFTER[each] for each in latest]
    if event is EventType.OPENED:
        return None, State.OPEN
    after = states[0] if states else None
    if event not in STATE_AFTER:
        return after or State.OPEN, after or State.OPEN
    before = states[1] if len(states) > 1 else None
    return before or State.OPEN, STATE_AFTER[event]
