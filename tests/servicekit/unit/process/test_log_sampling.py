"""Repeated lines: the first of an interval are logged, the rest is counted and reported, at every level."""

import asyncio
from collections.abc import Mapping

import pytest
import structlog

from servicekit.process.log_sampling import LogSampler, SamplingLimits, serve_peer

LIMITS = SamplingLimits(of_peer=2, of_calls=5, of_no_call=3, interval_seconds=60.0)


class Sampled:
    """A sampler whose clock the test sets, and what it has reported."""

    def __init__(self, limits: SamplingLimits = LIMITS) -> None:
        self.now = 0.0
        self.reports: list[Mapping[str, object]] = []
        self.sampler = LogSampler(self.reports.append, limits=limits, clock=lambda: self.now)

    def logged(self, event: str, times: int) -> int:
        """How many of so many lines are logged."""
        return sum(self.sampler.admits(event) for _ in range(times))

    async def call(self, peer: str, event: str, times: int) -> int:
        """The same by a call of a peer."""

        async def serve() -> int:
            serve_peer(peer)
            return self.logged(event, times)

        return await asyncio.create_task(serve())


async def test_so_many_lines_of_an_event_are_logged_and_the_rest_is_reported_in_one() -> None:
    sampled = Sampled()
    assert sampled.logged("refused", 10) == 3
    assert sampled.logged("another", 3) == 3
    assert sampled.sampler.suppressed == {"refused": 7}
    assert sampled.reports == []
    sampled.now = 61.0
    # The first line of the next interval.
    assert sampled.logged("another", 1) == 1
    assert sampled.reports == [{"of": "refused", "lines": 7, "seconds": 61}]
    assert sampled.logged("refused", 10) == 3
    assert sampled.sampler.suppressed == {"refused": 14}


async def test_one_peer_takes_no_lines_of_another_and_all_together_are_bounded() -> None:
    sampled = Sampled()
    assert await sampled.call("ipv4:10.0.0.1", "refused", 100) == 2
    assert await sampled.call("ipv4:10.0.0.2", "refused", 10) == 2
    assert await sampled.call("ipv4:10.0.0.3", "refused", 10) == 1
    assert await sampled.call("ipv4:10.0.0.4", "refused", 10) == 0
    # What no call causes has lines of its own.
    assert sampled.logged("refused", 10) == 3
    sampled.sampler.flush()
    assert sampled.reports == [
        {"of": "refused", "lines": 132, "seconds": 0, "peers": 4, "most_by": "ipv4:10.0.0.1"}
    ]


async def test_what_a_call_has_started_is_no_line_of_its_peer() -> None:
    sampled = Sampled()

    async def background() -> int:
        return sampled.logged("delivered", 3)

    async def serve() -> int:
        serve_peer("ipv4:10.0.0.1")
        return await asyncio.create_task(background())

    assert await asyncio.create_task(serve()) == 3


async def test_any_number_of_peers_costs_a_bounded_memory() -> None:
    sampled = Sampled(SamplingLimits(of_peer=1, of_calls=10_000))
    for number in range(3000):
        await sampled.call(f"ipv4:{number}", "refused", 1)
    sampled.sampler.flush()
    # The thousand first ones have a line each; the others share one.
    assert sampled.reports == [
        {"of": "refused", "lines": 1999, "seconds": 0, "peers": 1, "most_by": "others"}
    ]


async def test_the_rest_is_reported_although_no_other_line_follows() -> None:
    reported = asyncio.Event()
    limits = SamplingLimits(of_no_call=1, interval_seconds=0.05)
    # Its clock does not move: the loop's own timer reports.
    sampler = LogSampler(lambda _fields: reported.set(), limits=limits, clock=lambda: 0.0)
    assert [sampler.admits("refused") for _ in range(3)] == [True, False, False]
    async with asyncio.timeout(60):
        await reported.wait()


def test_a_line_that_is_left_out_is_dropped_before_it_is_made() -> None:
    sampled = Sampled(SamplingLimits(of_no_call=1))
    assert sampled.sampler.processor(None, "error", {"event": "x"}) == {"event": "x"}
    with pytest.raises(structlog.DropEvent):
        sampled.sampler.processor(None, "error", {"event": "x"})
