"""The queue of heavy reads: bounded, in turns, and nothing of it is lost when callers hang up."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest
from prometheus_client import CollectorRegistry

from servicekit.rpc.read_places import ReadLimits, ReadPlaces
from servicekit.rpc.refusals import RefusalMetrics
from servicekit.rpc.status_details import RpcError


class Reads:
    """The places of a server, and reads in them that end when the test says so."""

    def __init__(self, limits: ReadLimits) -> None:
        self.registry = CollectorRegistry()
        self.places = ReadPlaces(limits, RefusalMetrics(self.registry))
        self.running: list[str] = []

    async def read(self, name: str, may_end: asyncio.Event) -> None:
        """A read of the peer that its name begins with."""
        async with self.places.place(name[0]):
            self.running.append(name)
            await may_end.wait()
            self.running.remove(name)

    def start(self, name: str) -> "tuple[asyncio.Task[None], asyncio.Event]":
        may_end = asyncio.Event()
        return asyncio.create_task(self.read(name, may_end)), may_end

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


async def settled() -> None:
    """Everything that can go on has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_so_many_run_and_the_next_one_when_one_has_ended() -> None:
    reads = Reads(ReadLimits(running=2))
    (_, end_first), *_ = [reads.start(name) for name in ("a1", "a2", "a3")]
    await settled()
    assert reads.running == ["a1", "a2"]
    assert reads.sample("grpc_server_open_calls", kind="reads") == 3
    end_first.set()
    await settled()
    assert reads.running == ["a2", "a3"]


async def test_peers_take_turns_so_that_many_reads_of_one_keep_no_other_waiting() -> None:
    reads = Reads(ReadLimits(running=1))
    order = []
    started = [reads.start(name) for name in ("a1", "a2", "a3", "a4", "b1", "c1")]
    await settled()
    for _ in started:
        (name,) = reads.running
        order.append(name)
        started[("a1", "a2", "a3", "a4", "b1", "c1").index(name)][1].set()
        await settled()
    assert order == ["a1", "a2", "b1", "c1", "a3", "a4"]


@pytest.mark.parametrize(
    ("limits", "name"),
    [(ReadLimits(1, 2, 2), "reads_per_peer"), (ReadLimits(1, 2, 100), "reads")],
    ids=["of a peer", "in all"],
)
async def test_a_read_beyond_the_queue_is_resource_exhausted_at_once_and_counted(
    limits: ReadLimits, name: str
) -> None:
    reads = Reads(limits)
    started = [reads.start(each) for each in ("a1", "a2", "a3")]
    await settled()
    with pytest.raises(RpcError) as caught:
        await reads.read("a4", asyncio.Event())
    assert (caught.value.status.code, caught.value.status.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "TOO_MANY_READS",
    )
    assert reads.sample("grpc_server_refused_total", limit=name) == 1
    for _, may_end in started:
        may_end.set()
        await settled()
    # All places are free again.
    reads.start("a5")
    await settled()
    assert reads.running == ["a5"]


async def test_a_caller_that_hangs_up_leaves_the_queue_and_frees_its_place() -> None:
    reads = Reads(ReadLimits(running=1, waiting=1))
    running, waiting = [reads.start(name)[0] for name in ("a1", "a2")]
    await settled()
    waiting.cancel()
    await settled()
    reads.start("b1")
    await settled()
    running.cancel()
    await settled()
    assert reads.running[-1] == "b1"
    assert reads.sample("grpc_server_open_calls", kind="reads") == 1


async def test_a_place_whose_caller_hangs_up_in_the_same_moment_goes_to_the_next() -> None:
    reads = Reads(ReadLimits(running=1))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(reads.places.place("a"))
        gone, _ = reads.start("b1")
        reads.start("c1")
        await settled()
        # Its turn comes, and before it can go on, it is cancelled.
        await stack.aclose()
        gone.cancel()
    await settled()
    assert reads.running == ["c1"]
