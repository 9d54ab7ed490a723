"""What a benchmark found, in the shape that the report prints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median


class Goal(Enum):
    """Which way a ratio is good."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a ratio: its measurement of each turn, in `unit`, and what a call costs in processor time."""

    name: str
    unit: str
    turns: Sequence[float]
    # Microseconds of one call by process name, over all turns; empty where it is not meaningful.
    processor: str = ""

    @property
    def median(self) -> float:
        """The median of the turns."""
        return median(self.turns)


@dataclass(frozen=True, slots=True)
class Result:
    """A ratio of performance, its goal, and both sides of it."""

    number: str
    what: str
    against: str
    goal: Goal
    limit: float
    sides: Sequence[Side]
    # From the sides' measurements (of one turn, or their medians) to the ratio.
    ratio_of: Callable[[Sequence[float]], float]
    # Further measured facts, a sentence each.
    notes: Sequence[str] = ()
    # Why the other side is missing, in the short form; then there is no ratio.
    unmeasured: str = ""

    @property
    def ratio(self) -> float:
        """The ratio of the medians."""
        return self.ratio_of([side.median for side in self.sides])

    @property
    def ratios(self) -> Sequence[float]:
        """The ratio of each turn."""
        return [self.ratio_of(turn) for turn in zip(*(side.turns for side in self.sides), strict=True)]

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio >= self.limit if self.goal is Goal.AT_LEAST else self.ratio <= self.limit


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]
