"""Positions in the order of commits. Knows no store of changes, no database and no wire.

Changes are read in batches: a batch holds the changes that are complete at one watermark and were not at the watermark
before; every change of a later batch was committed later. Within a batch changes are ordered by sequence number. That is
the commit order of one record's changes, for each takes its number under the record's lock, and of transactions that did
not overlap. Only two overlapping transactions on different records may be delivered in either order, and a live watcher and
a resumed one may get them in different orders.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, Self, TypeVar


class Watermark(Protocol):
    """How far a store's changes are complete: two of them tell which changes are between them.

    The store alone knows what is in it. PostgreSQL's is a set of transactions, in snapshot.py; that of another store may be a
    number or a time. Equal ones are equal in Python, too.
    """

    def is_older_than(self, other: Any) -> bool:
        """Return whether `other`, of the same store, was taken later."""

    def write(self) -> str:
        """Return it as text for a resume token."""


@dataclass(frozen=True, slots=True)
class Position:
    """A reader's position: every change up to `since`, and of the batch from there to `until` those up to `sequence`."""

    since: Watermark
    until: Watermark
    sequence: int

    @classmethod
    def at(cls, watermark: Watermark) -> Self:
        """Return the position after every change up to `watermark`."""
        return cls(watermark, watermark, 0)

    def after(self, sequence: int) -> Self:
        """Return the position of the same batch after the change with this number."""
        return type(self)(self.since, self.until, sequence)

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
