"""A read that many share: one runs, one is queued, and a slow one makes no caller wait for long."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from servicekit.database.shared_read import SharedRead

AT_ONCE = timedelta(0)
LONG = timedelta(hours=1)


class Reads:
    """Reads that end when the test says so; the result is the number of the read."""

    def __init__(self) -> None:
        self.begun = 0
        self.ends: list[asyncio.Future[None]] = []

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ends.append(end)
        await end
        return number

    def end(self, error: Exception | None = None) -> None:
        """End the latest read."""
        if error is None:
            self.ends[-1].set_result(None)
        else:
            self.ends[-1].set_exception(error)


class _TooLongError(Exception):
    sqlstate = asyncpg.QueryCanceledError.sqlstate


def too_long() -> Exception:
    return DBAPIError("SELECT", {}, _TooLongError())


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_callers_share_a_read_but_never_one_that_began_before_their_call() -> None:
    reads = Reads()
    shared = SharedRead(reads, slow_after=LONG)
    first = [asyncio.create_task(shared.get()) for _ in range(3)]
    await settled()
    later = [asyncio.create_task(shared.get()) for _ in range(100)]
    await settled()
    assert reads.begun == 1
    reads.end()
    await settled()
    assert {task.result() for task in first} == {1}
    assert reads.begun == 2
    reads.end()
    assert set(await asyncio.gather(*later)) == {2}


async def test_while_a_read_is_slow_its_callers_get_the_result_before() -> None:
    reads = Reads()
    shared = SharedRead(reads, slow_after=AT_ONCE)
    first = asyncio.create_task(shared.get())
    await settled()
    # There is none before the first: its caller waits.
    assert not first.done()
    reads.end()
    assert await first == 1
    assert [await shared.get() for _ in range(3)] == [1, 1, 1]
    # Their reads: one that runs, and one that is queued.
    assert reads.begun == 2
    reads.end()
    await settled()
    assert await shared.get() == 2


async def test_a_result_that_is_too_old_is_not_given() -> None:
    reads = Reads()
    shared = SharedRead(reads, slow_after=AT_ONCE, max_age=-LONG)
    for number in (1, 2):
        caller = asyncio.create_task(shared.get())
        await settled()
        assert not caller.done()
        reads.end()
        assert await caller == number


async def test_a_read_that_the_database_ends_for_its_length_costs_no_caller_the_result_before() -> None:
    reads = Reads()
    shared = SharedRead(reads, slow_after=LONG)
    callers = [asyncio.create_task(shared.get())]
    await settled()
    reads.end()
    await settled()
    callers.append(asyncio.create_task(shared.get()))
    await settled()
    reads.end(too_long())
    assert await asyncio.gather(*callers) == [1, 1]


async def test_a_failure_is_every_callers_and_after_it_no_result_from_before_is_given() -> None:
    reads = Reads()
    shared = SharedRead(reads, slow_after=AT_ONCE)
    first = asyncio.create_task(shared.get())
    await settled()
    reads.end()
    await first
    assert await shared.get() == 1
    await settled()
    reads.end(ConnectionResetError())
    await settled()
    failing = asyncio.create_task(shared.get())
    await settled()
    assert not failing.done()
    reads.end(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await failing


async def test_a_caller_that_hangs_up_ends_no_read_of_others() -> None:
    reads = Reads()
    shared = SharedRead(reads, slow_after=LONG)
    gone, stays = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await settled()
    gone.cancel()
    await settled()
    reads.end()
    assert await stays == 1
