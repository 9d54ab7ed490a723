"""When a failed call is tried again, without a clock."""

from dataclasses import dataclass, field
from datetime import timedelta

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from awoooi.client.errors import CallError, UnavailableError, error_from_status
from awoooi.client.retry import Attempts, RetryPolicy


@dataclass
class Clock:
    """A time that a test sets, and a jitter that is always the largest."""

    now: float = 100.0
    ceilings: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def jitter(self, low: float, high: float) -> float:
        assert low == 0.0
        self.ceilings.append(high)
        return high


def attempts(clock: Clock, policy: RetryPolicy | None = None, **options: bool) -> Attempts:
    """The attempts of a call with ten seconds."""
    return Attempts(policy or RetryPolicy(), timeout=10.0, clock=clock, jitter=clock.jitter, **options)


def failure(
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, retry_delay: float | None = None
) -> CallError:
    """A failed call."""
    status = status_pb2.Status(code=code.value[0], message="down")
    if retry_delay is not None:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(timedelta(seconds=retry_delay))
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        status.details.append(packed)
    return error_from_status(status)


def test_the_backoff_is_exponential_with_full_jitter_and_capped() -> None:
    clock = Clock()
    policy = RetryPolicy(initial_backoff=0.1, multiplier=3.0, max_backoff=1.0)
    tried = attempts(clock, policy)
    delays = [tried.delay(failure()) for _ in range(5)]
    assert clock.ceilings == pytest.approx([0.1, 0.3, 0.9, 1.0, 1.0])
    assert delays == clock.ceilings


def test_the_jitter_is_spread_over_the_whole_backoff() -> None:
    drawn = [Attempts(RetryPolicy(initial_backoff=1.0), timeout=10.0).delay(failure()) for _ in range(200)]
    assert all(delay is not None and 0.0 <= delay <= 1.0 for delay in drawn)
    assert min(filter(None, drawn)) < 0.2
    assert max(filter(None, drawn)) > 0.8


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.UNAVAILABLE]
)
def test_no_other_code_than_unavailable_is_retried(code: grpc.StatusCode) -> None:
    assert attempts(Clock()).delay(failure(code, retry_delay=0.1)) is None


def test_a_call_that_is_not_idempotent_is_not_retried() -> None:
    assert attempts(Clock(), idempotent=False).delay(failure()) is None


def test_max_attempts_counts_the_first_attempt() -> None:
    tried = attempts(Clock(), RetryPolicy(max_attempts=3))
    assert [tried.delay(failure()) is None for _ in range(3)] == [False, False, True]


def test_retry_info_is_honoured_with_jitter_on_top() -> None:
    clock = Clock()
    assert attempts(clock).delay(failure(retry_delay=2.0)) == pytest.approx(2.05)


def test_a_delay_beyond_the_deadline_ends_the_call_at_once() -> None:
    clock = Clock()
    tried = attempts(clock)
    assert tried.delay(failure(retry_delay=11.0)) is None
    clock.now += 9.99
    assert tried.delay(failure()) is None


def test_attempts_share_one_deadline() -> None:
    clock = Clock()
    tried = attempts(clock)
    assert tried.remaining == pytest.approx(10.0)
    clock.now += 7.0
    assert tried.remaining == pytest.approx(3.0)
    clock.now += 70.0
    assert tried.remaining == pytest.approx(0.001)
    assert isinstance(failure(), UnavailableError)
