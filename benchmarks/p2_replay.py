"""P2: how many Resolves a second of incidents that are RESOLVED already, against a server that only answers."""

from collections.abc import Sequence
from itertools import cycle, islice

from benchmarks.errors import BenchmarkError
from benchmarks.lab import Lab
from benchmarks.result import Goal, Result, Side
from benchmarks.turns import Effort, MeasuredServer

_OUTSTANDING = 64
_CONNECTIONS = 4
_INCIDENTS = 2_000


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns. Raises BenchmarkError when a replay wrote anything."""
    lab.step(f"P2: making {_INCIDENTS} resolved incidents")
    await lab.incidents.resolved(_INCIDENTS)
    before = await lab.incidents.counts()
    echo = MeasuredServer(lab, lab.echo, _OUTSTANDING, _CONNECTIONS)
    service = MeasuredServer(lab, lab.service, _OUTSTANDING, _CONNECTIONS)
    messages = list(islice(cycle(lab.incidents.requests(range(_INCIDENTS))), 2 * effort.calls))
    for turn in range(effort.turns + 1):
        lab.step(f"P2: turn {turn} of {effort.turns}")
        if turn == 0:
            MeasuredServer(lab, lab.echo, _OUTSTANDING, _CONNECTIONS).turn(messages[: effort.calls])
            MeasuredServer(lab, lab.service, _OUTSTANDING, _CONNECTIONS).turn(messages[: effort.calls])
            continue
        echo.turn(messages)
        service.turn(messages)
    after = await lab.incidents.counts()
    if after != before:
        raise BenchmarkError(f"replays wrote to the database: {before} before, {after} after")
    return [
        Result(
            number="P2",
            what=f"Resolve of RESOLVED incidents (replays), {_OUTSTANDING} outstanding",
            against="the same echo",
            goal=Goal.AT_LEAST,
            limit=0.65,
            sides=[
                Side("replay", "calls/s", [load.rate for load in service.loads], service.processor),
                Side("echo", "calls/s", [load.rate for load in echo.loads], echo.processor),
            ],
            ratio_of=lambda sides: sides[0] / sides[1],
            notes=["P2: no replay wrote anything; no call failed."],
        )
    ]
