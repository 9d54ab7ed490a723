"""How long an operation may run, and how often one target may be operated on."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RecentRuns:
    """The recent runs on a target; `seconds_since` the last one ended is None when there was none."""

    running: int
    last_hour: int
    seconds_since: float | None


@dataclass(frozen=True, slots=True)
class OperationLimits:
    """The limits of every operation."""

    # An operation whose process died becomes INDETERMINATE after this long.
    lease: timedelta = timedelta(seconds=30)
    timeout: timedelta = timedelta(minutes=10)
    # No operation on a target within this time after the last one on it ended.
    cooldown: timedelta = timedelta(minutes=5)
    per_hour: int = 6

    def exceeded(self, recent: RecentRuns) -> str | None:
        """Return which limit keeps a target from being operated on now, or None."""
        if recent.running:
            return "another operation on the same target is running"
        if recent.seconds_since is not None and recent.seconds_since < self.cooldown.total_seconds():
            wait = self.cooldown.total_seconds() - recent.seconds_since
            return (
                f"cool-down: the target was operated on {recent.seconds_since:.0f} s ago, wait {wait:.0f} s"
            )
        if recent.last_hour >= self.per_hour:
            return f"limit: the target was operated on {recent.last_hour} times within the last hour"
        return None
