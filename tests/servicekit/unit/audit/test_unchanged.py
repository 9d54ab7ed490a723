"""Calls that changed nothing: counted, within budgets that no caller can exceed."""

import pytest

from servicekit.audit.model import Entry, Outcome
from servicekit.audit.unchanged import ALL, EACH, UnchangedCalls

MINUTE = 60.0


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def calls(clock: Clock) -> UnchangedCalls:
    return UnchangedCalls(clock=clock)


def entry(actor: str = "mallory", number: int = 0, **fields: str) -> Entry:
    return Entry(
        actor,
        "token",
        "a.Service/Resolve",
        (f"INC-20260507-{number:06X}",),
        Outcome.REFUSED,
        fields.get("code", "NOT_FOUND"),
        fields.get("reason", "INCIDENT_NOT_FOUND"),
        f"{number:064x}",
    )


def test_equal_calls_are_one_record_with_their_number(calls: UnchangedCalls) -> None:
    for _ in range(10_000):
        calls.add(entry())
    (found,) = calls.take_whole()
    assert (found.calls, found.targets) == (10_000, entry().targets)
    assert (calls.take_whole(), calls.take_counted()) == ([], [])


def test_a_caller_beyond_its_budget_is_counted_without_what_its_calls_were_about(
    calls: UnchangedCalls,
) -> None:
    for number in range(50_000):
        calls.add(entry(number=number))
    calls.add(entry("alice", 1))
    whole, counted = calls.take_whole(), calls.take_counted()
    assert len([each for each in whole if each.actor == "mallory"]) == EACH.burst
    assert [each for each in whole if each.actor == "alice"] == [entry("alice", 1)]
    (count,) = counted
    assert (count.actor, count.targets, count.digest) == ("mallory", (), "")
    assert count.calls + EACH.burst == 50_000


def test_a_budget_grows_again_with_time_up_to_its_burst(clock: Clock, calls: UnchangedCalls) -> None:
    for number in range(1_000):
        calls.add(entry(number=number))
    calls.take_whole()
    clock.time = 10 / EACH.per_second
    for number in range(1_000):
        calls.add(entry(number=number))
    assert len(calls.take_whole()) == 10
    clock.time += 1e9
    for number in range(1_000):
        calls.add(entry(number=number))
    assert len(calls.take_whole()) == EACH.burst


def test_many_callers_share_one_budget_and_most_of_them_one_count(calls: UnchangedCalls) -> None:
    for number in range(20_000):
        calls.add(entry(f"mallory-{number}", number))
    assert len(calls.take_whole()) == ALL.burst
    counted = calls.take_counted()
    assert len(counted) == 65
    assert sum(each.calls for each in counted) == 20_000 - ALL.burst
    (others,) = [each for each in counted if each.actor == ""]
    assert (others.method, others.operation, others.code) == ("", "a.Service/Resolve", "NOT_FOUND")


def test_a_day_of_hostile_calls_is_a_bounded_number_of_records(clock: Clock, calls: UnchangedCalls) -> None:
    """By the minute, as they are written: every caller new, every request another."""
    written = 0
    for minute in range(60):
        clock.time = minute * MINUTE
        for number in range(500):
            calls.add(entry(f"mallory-{minute}-{number}", number))
        written += len(calls.take_whole()) + len(calls.take_counted())
    assert written <= ALL.burst + 60 * (ALL.per_second * MINUTE + 65)


def test_calls_that_could_not_be_written_are_kept_in_a_bounded_number(
    clock: Clock, calls: UnchangedCalls
) -> None:
    """The database is away for a day: each hour's records are put back."""
    total = 0
    for hour in range(0, 24, 4):
        clock.time = hour * 60 * MINUTE
        for number in range(1_000):
            calls.add(entry(f"mallory-{number % 100}", hour * 1_000 + number))
            total += 1
        calls.requeue(calls.take_whole())
        calls.requeue(calls.take_counted())
    assert len(calls) <= 5_000 + 65
    kept = [*calls.take_whole(), *calls.take_counted()]
    assert sum(each.calls for each in kept) == total
