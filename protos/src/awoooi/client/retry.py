"""When a failed call is tried again: on UNAVAILABLE, with exponential backoff and full jitter, within its deadline."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from awoooi.client.errors import CallError, UnavailableError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon. Times in seconds.

    UNAVAILABLE alone is retried: the server was not reached, or it refused the call, or the connection broke on the way
    back; the methods are idempotent, so that the last of these is harmless. DEADLINE_EXCEEDED leaves no time, and
    After ABORTED the caller reads again and decides again.
    """

    # The backoff before attempt n+1 is drawn between 0 and initial_backoff * multiplier**(n-1), max_backoff at most.
    initial_backoff: float = 0.05
    multiplier: float = 2.0
    max_backoff: float = 2.0
    # None: as many as fit into the deadline.
    max_attempts: int | None = None


NO_RETRIES = RetryPolicy(max_attempts=1)


class Attempts:
    """The attempts of one call: how much time is left, and how long to wait for the next."""

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        timeout: float,
        idempotent: bool = True,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Begin: the deadline is `timeout` seconds from now."""
        self._policy = policy
        self._idempotent = idempotent
        self._clock = clock
        self._jitter = jitter
        self._deadline = clock() + timeout
        self._attempts = 0
        self._backoff = policy.initial_backoff

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; never below a millisecond, since gRPC may read 0 as none."""
        return max(self._deadline - self._clock(), 0.001)

    def delay(self, error: CallError) -> float | None:
        """Return how many seconds to wait before the next attempt, or None when `error` is the call's outcome.

        A server's RetryInfo comes first and the jitter on top, so that its callers do not all come back at once.
        """
        self._attempts += 1
        if not self._idempotent or not isinstance(error, UnavailableError):
            return None
        if self._policy.max_attempts is not None and self._attempts >= self._policy.max_attempts:
            return None
        backoff = min(self._backoff, self._policy.max_backoff)
        self._backoff = backoff * self._policy.multiplier
        delay = (error.retry_delay or 0.0) + self._jitter(0.0, backoff)
        # The error has more information than the DEADLINE_EXCEEDED that waiting would end with.
        return delay if self._clock() + delay < self._deadline else None
