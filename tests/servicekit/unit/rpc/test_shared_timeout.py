"""One timer for the time that many calls may take."""

import asyncio
import time

import pytest

from servicekit.rpc.shared_timeout import SharedTimeout

FOR_EVER = 3600.0
TIMEOUT_SECONDS = 10.0


async def timed(limit: SharedTimeout, work: asyncio.Event) -> str:
    """Wait for `work`; returns how that ended."""
    limited = limit.begin()
    try:
        await work.wait()
    except asyncio.CancelledError:
        if limit.end(limited):
            return "too long"
        raise
    limit.end(limited)
    return "in time"


async def test_each_that_takes_too_long_is_ended_and_no_other() -> None:
    short, long = SharedTimeout(0.01), SharedTimeout(FOR_EVER)
    done, never = asyncio.Event(), asyncio.Event()
    done.set()
    late = [asyncio.create_task(timed(short, never)) for _ in range(3)]
    quick = [asyncio.create_task(timed(short, done)) for _ in range(3)]
    waiting = asyncio.create_task(timed(long, never))
    assert await asyncio.gather(*late, *quick) == ["too long"] * 3 + ["in time"] * 3
    assert [task.cancelling() for task in late] == [0] * 3
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_what_began_later_is_ended_later() -> None:
    limit = SharedTimeout(0.05)
    first = asyncio.create_task(timed(limit, asyncio.Event()))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(timed(limit, asyncio.Event()))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert set(await asyncio.gather(first, second)) == {"too long"}


async def test_what_begins_after_all_ended_is_ended_too() -> None:
    timeout = SharedTimeout(0.01)
    for _ in range(2):
        assert await timed(timeout, asyncio.Event()) == "too long"


async def test_a_cancellation_by_another_stays_one_when_the_time_is_over_as_well() -> None:
    timeout = SharedTimeout(0.01)
    task = asyncio.create_task(timed(timeout, asyncio.Event()))
    await asyncio.sleep(0)
    # In the same turn of the loop, which is late: the timer of the timeout, and another who cancels.
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    time.sleep(0.03)  # noqa: ASYNC251 - holds the loop
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_within_a_longer_one_is_the_inner_ones() -> None:
    inner, outer = SharedTimeout(0.01), SharedTimeout(FOR_EVER)
    limited = outer.begin()
    assert await timed(inner, asyncio.Event()) == "too long"
    assert not outer.end(limited)
