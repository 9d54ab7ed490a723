"""Changes, their position in the order of commits, and the filter of a watcher. Knows no database and no wire.

PostgreSQL keeps no order of commits, and neither a sequence number nor a transaction id is one: both are assigned before
the commit, and a transaction may commit late. The position is the set of visible transactions (a snapshot).
So changes are read in batches: a batch holds the changes that are visible in one snapshot and were not in the snapshot
before; every change of a later batch was committed later. Within a batch changes are ordered by sequence number. That is
the commit order of one incident's state changes, for each takes its number under the incident's lock, and of transactions
that did not overlap. Only two overlapping transactions on different incidents may be delivered in either order, and a
live watcher and a resumed one may get them in different orders.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
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
    """A set of visible transactions: those below `xmax` without the ones `in_progress`."""

    xmin: int
    xmax: int
    in_progress: tuple[int, ...] = ()

    @classmethod
    def parse(cls, written: str) -> Self:
        """Parse a pg_snapshot as PostgreSQL writes it: `xmin:xmax:in_progress,…`."""
        xmin, xmax, in_progress = written.split(":")
        return cls(int(xmin), int(xmax), tuple(int(xid) for xid in in_progress.split(",") if xid))

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.in_progress))}"

    def is_older_than(self, other: Self) -> bool:
        """Return whether `other` was taken later. Of one database, a later snapshot is a superset of an earlier one."""
        return (self.xmax, -len(self.in_progress)) < (other.xmax, -len(other.in_progress))


@dataclass(frozen=True, slots=True)
class Position:
    """A reader's position: every change in `since`, and of the batch from there to `until` those up to `sequence`."""

    since: Snapshot
    until: Snapshot
    sequence: int

    @classmethod
    def at(cls, snapshot: Snapshot) -> Self:
        """Return the position after every change in `snapshot`."""
        return cls(snapshot, snapshot, 0)

    @property
    def between_batches(self) -> bool:
        """Whether the batch is read to its end."""
        return self.since == self.until


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """An event, its incident at that time or later, and the state before (None: there was no incident) and after it.

    An event that does not change the state has the same state before and after.
    """

    event: Event
    incident: Incident
    state_before: State | None
    state_after: State
    position: Position


@dataclass(frozen=True, slots=True)
class WatchFilter:
    """The criteria of a watcher; an empty field is no criterion."""

    states: tuple[State, ...] = ()
    severities: tuple[Severity, ...] = ()
    fingerprint: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    incident_id: str = ""

    def matches(self, change: Change) -> bool:
        """Return whether a change matches: its incident was in one of the states before or after it, and matches the rest."""
        if self.states and not {change.state_before, change.state_after}.intersection(self.states):
            return False
        return self._matches_content(change.incident)

    def matches_incident(self, incident: Incident) -> bool:
        """Return whether an incident matches in its present state."""
        if self.states and incident.state not in self.states:
            return False
        return self._matches_content(incident)

    def _matches_content(self, incident: Incident) -> bool:
        if self.incident_id and incident.incident_id != self.incident_id:
            return False
        if self.severities and incident.severity not in self.severities:
            return False
        if self.fingerprint and incident.fingerprint != self.fingerprint:
            return False
        return self.labels.items() <= incident.labels.items()


@dataclass(frozen=True, slots=True)
class Step:
    """One response of a Watch: a change, an existing incident, or, with neither, a heartbeat."""

    resume_token: str
    change: Change | None = None
    existing: Incident | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """An event that a position has, the latest: a database that has lost it was restored to before the position.

    Its transaction id would not do: what comes after a restore gets the ids of what was lost.
    """

    event_id: str
    incident_id: str
    event_time: datetime

    @classmethod
    def of(cls, event: Event) -> Self:
        """Return the witness that an event is."""
        return cls(event.event_id, event.incident_id, event.event_time)


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """A position, the epoch that it is of (see epoch.py), and its witness, None when there was no event."""

    position: Position
    epoch: str
    witness: Witness | None


# Writes a position as a resume token, bound to the watcher's filter.
MakeToken = Callable[[ResumePoint], str]


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
