"""P1: how many distinct incidents a second are resolved, against a server that only answers."""

from collections.abc import Sequence

from benchmarks.lab import Lab
from benchmarks.result import Goal, Result, Side
from benchmarks.turns import Effort, MeasuredServer
from incident.model import Effect

_OUTSTANDING = 64
_CONNECTIONS = 4


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns; the effects are done before the next turn of the echo begins."""
    incidents, effects = lab.incidents, len(Effect)
    lab.step(f"P1: making {effort.turns * effort.calls} incidents")
    await incidents.investigating((effort.turns + 1) * effort.calls)
    echo = MeasuredServer(lab, lab.echo, _OUTSTANDING, _CONNECTIONS)
    service = MeasuredServer(lab, lab.service, _OUTSTANDING, _CONNECTIONS)
    with_effects: list[float] = []
    # The turn before the first warms both up and is not kept.
    for turn in range(effort.turns + 1):
        lab.step(f"P1: turn {turn} of {effort.turns}")
        messages = incidents.requests(range(turn * effort.calls, (turn + 1) * effort.calls))
        if turn == 0:
            MeasuredServer(lab, lab.echo, _OUTSTANDING, _CONNECTIONS).turn(messages)
            MeasuredServer(lab, lab.service, _OUTSTANDING, _CONNECTIONS).turn(messages)
            await lab.drained()
            continue
        echo.turn([*messages, *messages])
        load = service.turn(messages)
        with_effects.append(load.calls / (load.seconds + await lab.drained()))
    await incidents.expect(resolved=(effort.turns + 1) * effort.calls, jobs_each=effects)
    answered = Side("Resolve", "calls/s", [load.rate for load in service.loads], service.processor)
    done = Side("Resolve, until every effect is done", "calls/s", with_effects)
    bare = Side("echo", "calls/s", [load.rate for load in echo.loads], echo.processor)
    resolved_once = (
        f"P1: each of the {(effort.turns + 1) * effort.calls} incidents was resolved once, with one event and "
        f"{effects} effects; no call failed."
    )
    against = "bare grpc.aio echo of the same messages"
    return [
        Result(
            number="P1",
            what=f"Resolve of distinct incidents, {_OUTSTANDING} outstanding, its effects done meanwhile or later",
            against=against,
            goal=Goal.AT_LEAST,
            limit=0.60,
            sides=[answered, bare],
            ratio_of=lambda sides: sides[0] / sides[1],
            notes=(resolved_once,),
        ),
        Result(
            number="P1",
            what="the same, until the last effect is done",
            against=against,
            goal=Goal.AT_LEAST,
            limit=0.40,
            sides=[done, bare],
            ratio_of=lambda sides: sides[0] / sides[1],
        ),
    ]
