"""An outage of the one system that all deliveries of a topic go to, as their outcomes tell."""

import time
from collections.abc import Callable, Sequence

from servicekit.outbox.handler import PermanentError, UnreachableError

# A system that comes and goes is tried by everything that waits at most so often.
_BETWEEN_ENDS_SECONDS = 10.0


class Outage:
    """Begins with a batch of which nothing reached the other system, and ends with one that was answered.

    A process that starts knows nothing: its first answer ends an outage too.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lasts = True
        self._ended_at = float("-inf")

    def ends_with(self, outcomes: Sequence[Exception | None]) -> bool:
        """Note a batch's outcomes; true when what failed during the outage should be tried now."""
        if not outcomes:
            return False
        if all(isinstance(outcome, (UnreachableError, TimeoutError)) for outcome in outcomes):
            self._lasts = True
            return False
        answered = any(outcome is None or isinstance(outcome, PermanentError) for outcome in outcomes)
        now = self._clock()
        if not (self._lasts and answered) or now < self._ended_at + _BETWEEN_ENDS_SECONDS:
            return False
        self._lasts = False
        self._ended_at = now
        return True
