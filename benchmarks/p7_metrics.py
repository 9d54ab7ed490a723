"""P7: how long `/metrics` takes with a long history, against a short one."""

import time
from collections.abc import Sequence
from statistics import median

import httpx2

from benchmarks.errors import BenchmarkError
from benchmarks.lab import Lab
from benchmarks.result import Goal, Result, Side
from benchmarks.stored import much_and_little, serving
from benchmarks.turns import Effort

TIMEOUT_SECONDS = 60.0


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns: a tenth of `effort.calls_one_caller` scrapes each, one at a time."""
    scrapes = max(effort.calls_one_caller // 10, 2)
    async with much_and_little(lab, effort) as databases, serving(lab, *databases) as (much, little):
        with httpx2.Client(trust_env=False, timeout=TIMEOUT_SECONDS) as http:
            for each in (much, little):
                _expect_history(http, each.gateway.address, each.stored.amount)
            taken: dict[int, list[float]] = {0: [], 1: []}
            for turn in range(effort.turns + 1):
                lab.step(f"P7: turn {turn} of {effort.turns}")
                for side, each in enumerate((much, little)):
                    with lab.recorder.recording(each.processes if side == 0 else {}):
                        seconds = median(scrape(http, each.gateway.address) for _ in range(scrapes))
                    # The first turn fills caches and pools.
                    if turn > 0:
                        taken[side].append(seconds * 1e3)
    many, few = effort.stored
    return [
        Result(
            number="P7",
            what=f"`/metrics` of the gateway with {many:,} incidents and their approvals and executions, a tenth of them of the last "
            "24 hours",
            against=f"with {few:,}",
            goal=Goal.AT_MOST,
            limit=1.3,
            sides=[
                Side(f"a scrape with {many:,}", "ms", taken[0]),
                Side(f"a scrape with {few:,}", "ms", taken[1]),
            ],
            ratio_of=lambda sides: sides[0] / sides[1],
        )
    ]


def scrape(http: httpx2.Client, address: str) -> float:
    """Return the seconds of a scrape. Raises BenchmarkError when it is refused."""
    started = time.perf_counter()
    response = http.get(f"http://{address}/metrics")
    if response.status_code != httpx2.codes.OK:
        raise BenchmarkError(
            f"a scrape of {address} was answered with {response.status_code}: {response.text[:300]}"
        )
    return time.perf_counter() - started


def _expect_history(http: httpx2.Client, address: str, incidents: int) -> None:
    """Raises BenchmarkError unless the gateway has figures of both services, and these are of so many incidents."""
    lines = http.get(f"http://{address}/metrics").text.splitlines()
    up = [line for line in lines if line.startswith("awoooi_flywheel_source_up{") and line.endswith(" 1.0")]
    opened = sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith("awoooi_flywheel_incidents_opened_total{")
    )
    if len(up) != 2 or opened < incidents:  # noqa: PLR2004 - both services
        raise BenchmarkError(
            f"{address} has {len(up)} sources and {opened:.0f} incidents, not 2 and {incidents}"
        )
