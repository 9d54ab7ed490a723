"""Calls in flight: counted, and remembered for a moment."""

import asyncio

import pytest

from servicekit.rpc.in_flight import InFlightCalls


def begun(calls: InFlightCalls, count: int) -> None:
    for _ in range(count):
        calls.begin()


def ended(calls: InFlightCalls, count: int) -> None:
    for _ in range(count):
        calls.end()


def test_busy_is_so_many_calls_together() -> None:
    calls = InFlightCalls()
    begun(calls, 3)
    assert calls.was_busy(3)
    assert not calls.was_busy(4)


def test_calls_one_after_the_other_are_not_busy() -> None:
    calls = InFlightCalls()
    for _ in range(10):
        begun(calls, 1)
        ended(calls, 1)
    assert not calls.was_busy(2)


def test_a_group_of_calls_that_ended_together_is_busy_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("servicekit.rpc.in_flight.time.monotonic", lambda: now)
    calls = InFlightCalls()
    begun(calls, 8)
    ended(calls, 8)
    now = 100.09
    assert calls.was_busy(8)
    now = 100.11
    assert not calls.was_busy(1)


async def test_idle_is_awaited_until_the_last_call_has_ended() -> None:
    calls = InFlightCalls()
    async with asyncio.timeout(1):
        await calls.wait_idle()
    begun(calls, 2)
    waiting = asyncio.create_task(calls.wait_idle())
    ended(calls, 1)
    await asyncio.sleep(0)
    assert not waiting.done()
    ended(calls, 1)
    async with asyncio.timeout(20):
        await waiting
