"""GroupCommit: which writes share a batch, which result each caller gets, and that every caller gets one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from servicekit.database import group_commit
from servicekit.database.group_commit import GroupCommit

Write = Callable[[Sequence[int]], Awaitable[Sequence[int | Exception]]]


class Ledger:
    """A write that keeps the batches it was given and answers each command with ten times itself."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.under_way = 0
        self.most_under_way = 0

    async def __call__(self, commands: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(commands))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.began.set()
        await self.may_end.wait()
        self.under_way -= 1
        return [command * 10 for command in commands]


def data_error() -> DBAPIError:
    """What the driver raises for a value that a column refuses."""
    cause = asyncpg.exceptions.NumericValueOutOfRangeError("out of range")
    error = DBAPIError("INSERT", {}, cause)
    assert error.orig is not None
    error.orig.sqlstate = "22003"  # type: ignore[attr-defined]  # as the asyncpg dialect sets it
    return error


async def test_a_single_caller_is_written_at_once_and_alone() -> None:
    ledger = Ledger()
    assert await GroupCommit(ledger)(1) == 10
    assert ledger.batches == [[1]]


async def test_callers_that_are_ready_together_go_together_and_each_gets_its_own() -> None:
    ledger = Ledger()
    joined = GroupCommit(ledger)
    assert await asyncio.gather(*(joined(number) for number in range(20))) == [n * 10 for n in range(20)]
    assert ledger.batches == [list(range(20))]


async def test_callers_during_a_write_wait_and_go_together_in_the_next_one_in_order() -> None:
    ledger = Ledger()
    ledger.may_end.clear()
    joined = GroupCommit(ledger, max_flushes=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(joined(0))
        await ledger.began.wait()
        rest = [group.create_task(joined(number)) for number in (3, 1, 2)]
        await asyncio.sleep(0)
        assert ledger.batches == [[0]]
        ledger.may_end.set()
    assert ledger.batches == [[0], [3, 1, 2]]
    assert [task.result() for task in rest] == [30, 10, 20]


async def test_a_batch_is_not_larger_than_allowed() -> None:
    ledger = Ledger()
    joined = GroupCommit(ledger, max_batch=4)
    assert await asyncio.gather(*(joined(number) for number in range(10))) == [n * 10 for n in range(10)]
    assert [len(batch) for batch in ledger.batches] == [4, 4, 2]


@pytest.mark.parametrize("flushes", [1, 2, 3])
async def test_as_many_writes_are_under_way_as_allowed(flushes: int) -> None:
    ledger = Ledger()
    ledger.may_end.clear()
    joined = GroupCommit(ledger, max_batch=1, max_flushes=flushes)
    callers = [asyncio.create_task(joined(number)) for number in range(12)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert ledger.under_way == flushes
    ledger.may_end.set()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*callers) == [number * 10 for number in range(12)]
    assert ledger.most_under_way == flushes
    assert [number for batch in ledger.batches for number in batch] == list(range(12))


async def test_a_crowd_that_was_answered_is_written_together_again_when_it_comes_back_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "_QUIET_SECONDS", 3600)
    monkeypatch.setattr(group_commit, "_LARGE_BATCH", 8)
    ledger = Ledger()
    joined = GroupCommit(ledger)

    async def caller(number: int) -> None:
        for _ in range(5):
            await joined(number)
            # Each takes its own time until it is back.
            for _ in range(number):
                await asyncio.sleep(0)

    await asyncio.gather(*(caller(number) for number in range(8)))
    assert [len(batch) for batch in ledger.batches] == [8] * 5


async def test_of_a_large_crowd_a_part_is_written_while_the_rest_is_on_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "_QUIET_SECONDS", 3600)
    ledger = Ledger()
    joined = GroupCommit(ledger)
    await asyncio.gather(*(joined(number) for number in range(64)))
    ledger.may_end.clear()
    ledger.began.clear()
    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        for number in range(32):
            group.create_task(joined(number))
        await ledger.began.wait()
        ledger.may_end.set()
    assert [len(batch) for batch in ledger.batches] == [64, 32]


async def test_who_is_left_of_a_crowd_is_written_though_the_others_do_not_come_back() -> None:
    ledger = Ledger()
    joined = GroupCommit(ledger)
    await asyncio.gather(*(joined(number) for number in range(8)))
    async with asyncio.timeout(5):
        assert await joined(8) == 80
        assert await joined(9) == 90
    assert ledger.batches == [list(range(8)), [8], [9]]


async def test_a_lone_write_does_not_linger_for_an_earlier_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger()
    joined = GroupCommit(ledger)
    await asyncio.gather(*(joined(number) for number in range(8)))
    later = asyncio.get_running_loop().time() + 1
    monkeypatch.setattr(group_commit, "_now", lambda: later)
    # A wait for the others would never end.
    monkeypatch.setattr(group_commit, "_QUIET_SECONDS", 3600)
    async with asyncio.timeout(5):
        assert await joined(8) == 80


async def test_one_caller_may_call_again_as_soon_as_it_is_answered() -> None:
    joined = GroupCommit(Ledger())
    async with asyncio.timeout(5):
        assert [await joined(number) for number in range(5)] == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("turns", range(8))
async def test_a_caller_that_comes_in_the_moment_a_write_ends_is_not_forgotten(turns: int) -> None:
    ledger = Ledger()
    ledger.may_end.clear()
    joined = GroupCommit(ledger)
    first = asyncio.create_task(joined(1))
    await ledger.began.wait()
    ledger.may_end.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await joined(2) == 20
        assert await first == 10


async def test_a_caller_gets_the_error_that_is_its_own_and_its_neighbours_their_results() -> None:
    async def write(commands: Sequence[int]) -> Sequence[int | Exception]:
        return [KeyError(command) if command == 2 else command for command in commands]

    joined: GroupCommit[int, int] = GroupCommit(write)
    first, second, third = await asyncio.gather(joined(1), joined(2), joined(3), return_exceptions=True)
    assert (first, third) == (1, 3)
    assert isinstance(second, KeyError)


async def test_an_error_of_the_whole_batch_reaches_every_caller_and_the_next_write_goes_on() -> None:
    failing = True

    async def write(commands: Sequence[int]) -> Sequence[int | Exception]:
        if failing:
            raise ConnectionResetError
        return list(commands)

    joined: GroupCommit[int, int] = GroupCommit(write)
    outcomes = await asyncio.gather(*(joined(number) for number in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionResetError] * 3
    failing = False
    async with asyncio.timeout(5):
        assert await joined(7) == 7


async def test_after_a_data_error_each_is_tried_alone_and_only_the_bad_one_fails() -> None:
    batches: list[list[int]] = []

    async def write(commands: Sequence[int]) -> Sequence[int | Exception]:
        batches.append(list(commands))
        if 2 in commands:
            raise data_error()
        return list(commands)

    joined: GroupCommit[int, int] = GroupCommit(write)
    first, second, third = await asyncio.gather(joined(1), joined(2), joined(3), return_exceptions=True)
    assert (first, third) == (1, 3)
    assert isinstance(second, DBAPIError)
    assert batches == [[1, 2, 3], [1], [2], [3]]


async def test_a_data_error_of_a_single_command_is_not_tried_again() -> None:
    attempts = 0

    async def write(_commands: Sequence[int]) -> Sequence[int | Exception]:
        nonlocal attempts
        attempts += 1
        raise data_error()

    joined: GroupCommit[int, int] = GroupCommit(write)
    with pytest.raises(DBAPIError):
        await joined(1)
    assert attempts == 1


async def test_a_write_that_failed_for_another_reason_is_not_tried_one_by_one() -> None:
    attempts = 0

    async def write(_commands: Sequence[int]) -> Sequence[int | Exception]:
        nonlocal attempts
        attempts += 1
        raise IntegrityError("INSERT", {}, Exception("no SQLSTATE, so not known to be about the data"))

    joined: GroupCommit[int, int] = GroupCommit(write)
    await asyncio.gather(joined(1), joined(2), return_exceptions=True)
    assert attempts == 1


async def test_a_cancelled_caller_leaves_the_write_and_its_neighbours_alone() -> None:
    ledger = Ledger()
    ledger.may_end.clear()
    joined = GroupCommit(ledger)
    leaving, staying = asyncio.create_task(joined(1)), asyncio.create_task(joined(2))
    await ledger.began.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    ledger.may_end.set()
    async with asyncio.timeout(5):
        assert await staying == 20
    assert ledger.batches == [[1, 2]]


async def test_a_caller_that_was_cancelled_while_it_waited_is_not_written() -> None:
    ledger = Ledger()
    ledger.may_end.clear()
    joined = GroupCommit(ledger, max_flushes=1)
    first = asyncio.create_task(joined(1))
    await ledger.began.wait()
    waiting, leaving = asyncio.create_task(joined(2)), asyncio.create_task(joined(3))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    ledger.may_end.set()
    async with asyncio.timeout(5):
        assert [await first, await waiting] == [10, 20]
    assert ledger.batches == [[1], [2]]


async def test_a_write_that_returns_the_wrong_number_of_results_hangs_no_caller() -> None:
    async def write(_commands: Sequence[int]) -> Sequence[int | Exception]:
        return []

    joined: GroupCommit[int, int] = GroupCommit(write)
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(joined(1), joined(2), return_exceptions=True)
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
