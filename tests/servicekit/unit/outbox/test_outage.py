"""When what failed during an outage is tried again: once, with the first answer."""

import pytest

from servicekit.outbox.handler import PermanentError, UnreachableError
from servicekit.outbox.outage import Outage

AWAY = UnreachableError("UNAVAILABLE: refused")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("away", [AWAY, TimeoutError()])
def test_an_outage_ends_with_the_first_answer_and_only_then(away: Exception) -> None:
    clock = Clock()
    outage = Outage(clock)
    outage.ends_with([None])
    clock.now += 60

    assert not outage.ends_with([None])
    assert not outage.ends_with([away, away])
    assert outage.ends_with([away, None])
    clock.now += 60
    assert not outage.ends_with([None])


def test_a_refusal_is_an_answer_and_another_failure_is_none() -> None:
    clock = Clock()
    outage = Outage(clock)
    assert not outage.ends_with([RuntimeError("the database of the other system is away")])
    assert outage.ends_with([PermanentError("NOT_FOUND: no such incident")])


def test_a_process_that_starts_takes_the_first_answer_for_an_end() -> None:
    assert Outage(Clock()).ends_with([None])


def test_a_system_that_comes_and_goes_ends_no_outage_more_often_than_every_ten_seconds() -> None:
    clock = Clock()
    outage = Outage(clock)
    assert outage.ends_with([None])
    clock.now += 9
    outage.ends_with([AWAY])
    assert not outage.ends_with([None])
    clock.now += 2
    assert outage.ends_with([None])
