"""PostgreSQL's watermark: the set of visible transactions.

PostgreSQL keeps no order of commits, and neither a sequence number nor a transaction id is one: both are assigned before
the commit, and a transaction may commit late.
"""

from dataclasses import dataclass
from typing import Self

# Two snapshots of this size and the rest fit into the 4096 characters of a token.
_MAX_CHARACTERS = 1_250


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

    def write(self) -> str:
        """Write it for a token, shorter than PostgreSQL does: the ids after `xmin` as offsets from it."""
        offsets = ",".join(str(xid - self.xmin) for xid in self.in_progress)
        written = f"{self.xmin}:{self.xmax - self.xmin}:{offsets}"
        if len(written) > _MAX_CHARACTERS:
            # Hundreds of transactions in progress. An older snapshot is as good: some changes are delivered twice.
            return f"{self.xmin}:0:"
        return written

    @classmethod
    def read(cls, written: str) -> Self:
        """Read what `write` has written."""
        xmin, width, offsets = written.split(":")
        return cls(
            int(xmin),
            int(xmin) + int(width),
            tuple(int(xmin) + int(offset) for offset in offsets.split(",") if offset),
        )
