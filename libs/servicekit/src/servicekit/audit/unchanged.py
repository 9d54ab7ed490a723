"""Calls that changed nothing, in memory until they are written: equal ones are one record with a count.

A caller that is refused again and again must not fill the database. Each identity has a budget of records of its own, and
all together have one. What is beyond it is counted: by identity, as long as there are few, then over all of them.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from servicekit.audit.model import Entry

# Of an identity that could not be established or is one of too many.
UNNAMED: Final = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many records there may be at once, and how many a second in the long run."""

    burst: int
    per_second: float


# In the long run at most 86,400 records a day with all their fields, and as many counts as identities are counted by.
ALL = Budget(burst=1_000, per_second=1.0)
EACH = Budget(burst=100, per_second=0.2)
_MAX_IDENTITIES = 1_000
_MAX_COUNTED_IDENTITIES = 64
# While the database is away.
_MAX_WHOLE = 5_000


class _Bucket:
    def __init__(self, budget: Budget, now: float) -> None:
        self._budget = budget
        self._left = float(budget.burst)
        self._time = now

    def has_one(self, now: float) -> bool:
        gained = (now - self._time) * self._budget.per_second
        self._left, self._time = min(self._left + gained, float(self._budget.burst)), now
        return self._left >= 1

    def take(self) -> None:
        self._left -= 1


class UnchangedCalls:
    """Calls that wait to be written."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all = _Bucket(ALL, clock())
        self._each: OrderedDict[str, _Bucket] = OrderedDict()
        self._whole: Counter[Entry] = Counter()
        # Without targets and digest; those of too many identities without these too.
        self._counted: Counter[Entry] = Counter()
        self._identities: set[str] = set()

    def __len__(self) -> int:
        """Return how many records they are."""
        return len(self._whole) + len(self._counted)

    def add(self, entry: Entry) -> None:
        """Add a call."""
        if entry in self._whole or self._within_budget(entry.actor):
            self._whole[entry] += 1
            return
        counted = entry._replace(targets=(), digest="")
        if entry.actor not in self._identities:
            if len(self._identities) < _MAX_COUNTED_IDENTITIES:
                self._identities.add(entry.actor)
            else:
                counted = counted._replace(actor=UNNAMED, method="")
        self._counted[counted] += 1

    def take_whole(self) -> Sequence[Entry]:
        """Remove and return the entries with all their fields: at most a burst and what came since."""
        taken, self._whole = self._whole, Counter()
        return _with_calls(taken)

    def take_counted(self) -> Sequence[Entry]:
        """Remove and return the counts. Their number is that of operations and reasons, by at most 64 identities."""
        taken, self._counted = self._counted, Counter()
        self._identities.clear()
        return _with_calls(taken)

    def requeue(self, entries: Sequence[Entry]) -> None:
        """Add entries that could not be written, at no cost to a budget."""
        for entry in entries:
            once = entry._replace(calls=1)
            if entry.targets or entry.digest:
                self._whole[once] += entry.calls
            else:
                self._identities.add(entry.actor)
                self._counted[once] += entry.calls

    def _within_budget(self, actor: str) -> bool:
        if len(self._whole) >= _MAX_WHOLE:
            return False
        now = self._clock()
        bucket = self._each.get(actor)
        if bucket is None:
            if len(self._each) >= _MAX_IDENTITIES:
                # The oldest: it has had the most time to regain its budget.
                self._each.popitem(last=False)
            bucket = self._each[actor] = _Bucket(EACH, now)
        if not (bucket.has_one(now) and self._all.has_one(now)):
            return False
        bucket.take()
        self._all.take()
        return True


def _with_calls(counts: Counter[Entry]) -> Sequence[Entry]:
    return [entry._replace(calls=calls) for entry, calls in counts.items()]
