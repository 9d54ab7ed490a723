"""Slices of heavy reads take turns: one at a time, and another call that is in flight goes first."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

from servicekit.rpc.event_loop_turns import Turns, current_turns
from servicekit.rpc.interceptors.reads import ReadLayer
from servicekit.rpc.read_places import ReadLimits, ReadPlaces
from servicekit.rpc.refusals import RefusalMetrics

# Never met when all is well: what waits so long waits for ever.
FOR_EVER = 60.0
SLICES = 4


async def read(turns: Turns, name: str, seen: list[str]) -> None:
    for number in range(SLICES):
        async with turns.slice(is_first=number == 0):
            seen.append(name)


async def until_it_waits() -> None:
    # More turns of the loop than a read needs that has nothing to wait for.
    for _ in range(10 * SLICES):
        await asyncio.sleep(0)


async def test_reads_take_turns_among_themselves() -> None:
    turns = Turns()
    seen: list[str] = []
    await asyncio.gather(*(read(turns, name, seen) for name in "abc"))
    assert "".join(seen) == "abc" * SLICES


async def test_between_two_slices_of_any_read_another_call_ends() -> None:
    turns = Turns(longest_wait_seconds=FOR_EVER)
    seen: list[str] = []
    for _ in range(2 * SLICES):
        turns.begin()
    reads = [asyncio.create_task(read(turns, name, seen)) for name in "ab"]
    await until_it_waits()
    # The first slice, which is all of most pages, waits for nothing.
    assert seen == ["a", "b"]
    ended = 0
    while not all(each.done() for each in reads):
        turns.end()
        seen.append(".")
        ended += 1
        await until_it_waits()
    assert "".join(seen) == "ab" + ".a.b" * (SLICES - 1)
    assert ended == 2 * (SLICES - 1)


async def test_a_read_waits_for_nothing_when_no_other_call_is_in_flight() -> None:
    turns = Turns(longest_wait_seconds=FOR_EVER)
    turns.begin()
    turns.end()
    seen: list[str] = []
    async with asyncio.timeout(FOR_EVER / 2):
        await read(turns, "a", seen)
    assert len(seen) == SLICES


async def test_a_call_that_hangs_delays_a_slice_by_a_bounded_time() -> None:
    turns = Turns(longest_wait_seconds=0.001)
    turns.begin()
    seen: list[str] = []
    async with asyncio.timeout(FOR_EVER):
        await read(turns, "a", seen)
    assert len(seen) == SLICES


async def test_a_read_that_is_cancelled_while_it_waits_leaves_its_turn_to_the_next() -> None:
    turns = Turns(longest_wait_seconds=FOR_EVER)
    turns.begin()
    seen: list[str] = []
    cancelled = asyncio.create_task(read(turns, "a", seen))
    other = asyncio.create_task(read(turns, "b", seen))
    await until_it_waits()
    cancelled.cancel()
    await asyncio.wait([cancelled])
    turns.end()
    async with asyncio.timeout(FOR_EVER):
        await other
    assert seen == ["a", *"b" * SLICES]


class Caller:
    """The context of a call, as far as a layer looks at it."""

    def peer(self) -> str:
        """The caller's address, as gRPC names it."""
        return "ipv4:127.0.0.1:50312"


async def test_every_call_that_is_no_heavy_read_goes_before_the_slices_of_one() -> None:
    turns = Turns(longest_wait_seconds=FOR_EVER)
    layer = ReadLayer(ReadPlaces(ReadLimits(), RefusalMetrics(CollectorRegistry())), turns)
    layer.add(["/service/List"])
    seen: list[str] = []
    answer = asyncio.Event()

    async def get(_request: object, _context: object) -> None:
        await answer.wait()
        seen.append("get")

    async def list_(_request: object, _context: object) -> None:
        assert current_turns() is turns
        await read(turns, "list", seen)

    context: Any = Caller()
    calls = [
        asyncio.ensure_future(layer.unary("/service/Get", get)(None, context)),
        asyncio.ensure_future(layer.unary("/service/List", list_)(None, context)),
    ]
    await until_it_waits()
    assert seen == ["list"]
    answer.set()
    async with asyncio.timeout(FOR_EVER / 2):
        await asyncio.gather(*calls)
    assert seen == ["list", "get", *["list"] * (SLICES - 1)]
