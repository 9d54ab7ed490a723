"""Backoff: never more than the cap, wider with each attempt, and spread."""

from datetime import timedelta

import pytest

from servicekit.outbox.batch_delivery import Backoff
from servicekit.outbox.worker import WorkerSettings

BASE = timedelta(milliseconds=200)
CAP = timedelta(seconds=60)


@pytest.mark.parametrize("attempts", [1, 2, 3, 8, 9, 10, 31, 32, 1000, 10**6])
def test_a_delay_is_between_nothing_and_the_ceiling_of_its_attempt(attempts: int) -> None:
    ceiling = min(CAP, BASE * 2 ** min(attempts - 1, 30))
    delays = [Backoff(BASE, CAP).delay(attempts) for _ in range(200)]
    assert all(timedelta() <= delay <= ceiling for delay in delays)
    # Full jitter: both halves of the range are used. The chance that it fails by itself is 2^-199.
    assert min(delays) < ceiling / 2 < max(delays)


def test_the_cap_is_a_minute_unless_set_otherwise() -> None:
    assert WorkerSettings().backoff.cap == timedelta(seconds=60)
