"""Positions in the order of commits. Knows no database and no wire.

PostgreSQL keeps no order of commits, and neither a sequence number nor a transaction id is one: both are assigned before
the commit, and a transaction may commit late. The position is the set of visible transactions (a snapshot).
So changes are read in batches: a batch holds the changes that are visible in one snapshot and were not in the snapshot
before; every change of a later batch was committed later. Within a batch changes are ordered by sequence number. That is
the commit order of one record's changes, for each takes its number under the record's lock, and of transactions that did
not overlap. Only two overlapping transactions on different records may be delivered in either order, and a live watcher and
a resumed one may get them in different orders.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, Self, TypeVar


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


@dataclass(frozen=True, slots=True)
class Witness:
    """A change that a position has, the latest: a database that has lost it was restored to before the position.

    Its transaction id would not do: what comes after a restore gets the ids of what was lost.
    """

    key: str
    record_id: str
    time: datetime


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """A position, the epoch that it is of (see epoch.py), and its witness, None when there was no change."""

    position: Position
    epoch: str
    witness: Witness | None


# Writes a position as a resume token, bound to the watcher's filter.
MakeToken = Callable[[ResumePoint], str]


class AnyChange(Protocol):
    """A change of a record, as a service reads it."""

    @property
    def position(self) -> Position:
        """The position after it."""

    @property
    def witness(self) -> Witness:
        """What a database must have that has not lost it."""

    @property
    def characters(self) -> int:
        """About how much memory it takes."""


RecordT = TypeVar("RecordT")
RecordT_co = TypeVar("RecordT_co", covariant=True)
ChangeT = TypeVar("ChangeT", bound=AnyChange)
ChangeT_co = TypeVar("ChangeT_co", bound=AnyChange, covariant=True)
ChangeT_contra = TypeVar("ChangeT_contra", bound=AnyChange, contravariant=True)


class Criteria(Protocol[ChangeT_contra]):
    """The filter of a watcher."""

    def matches(self, change: ChangeT_contra) -> bool:
        """Return whether the watcher gets a change."""


@dataclass(frozen=True, slots=True)
class Step(Generic[ChangeT, RecordT]):
    """One response of a Watch: a change, an existing record, or, with neither, a heartbeat."""

    resume_token: str
    change: ChangeT | None = None
    existing: RecordT | None = None
