"""P4: what protection costs: Resolve over mutual TLS with a verified token, against the same service in the clear."""

from benchmarks.lab import Lab
from benchmarks.result import Goal, Result, Side
from benchmarks.turns import Effort, MeasuredServer
from incident.model import Effect

_OUTSTANDING = 64
_CONNECTIONS = 4


async def measure(lab: Lab, effort: Effort) -> Result:
    """Measure in turns; the effects of one side are done before the other's turn begins."""
    total = (effort.turns + 1) * effort.calls
    async with lab.protected() as (protected, its_incidents):
        lab.step(f"P4: making {total} incidents in two databases")
        await lab.incidents.investigating(total)
        await its_incidents.investigating(total)
        # The turn before the first warms both up and is not kept.
        warming = MeasuredServer(lab, lab.service, _OUTSTANDING, _CONNECTIONS)
        warming_too = MeasuredServer(lab, protected, _OUTSTANDING, _CONNECTIONS)
        clear = MeasuredServer(lab, lab.service, _OUTSTANDING, _CONNECTIONS)
        tls = MeasuredServer(lab, protected, _OUTSTANDING, _CONNECTIONS)
        for turn in range(effort.turns + 1):
            lab.step(f"P4: turn {turn} of {effort.turns}")
            numbers = range(turn * effort.calls, (turn + 1) * effort.calls)
            (clear if turn else warming).turn(lab.incidents.requests(numbers))
            await lab.drained()
            (tls if turn else warming_too).turn(its_incidents.requests(numbers))
            await lab.drained(its_incidents)
        for incidents in (lab.incidents, its_incidents):
            await incidents.expect(resolved=total, jobs_each=len(Effect))
    sides = [
        Side("Resolve over mTLS with a token", "calls/s", [load.rate for load in tls.loads], tls.processor),
        Side("Resolve in the clear", "calls/s", [load.rate for load in clear.loads], clear.processor),
    ]
    return Result(
        number="P4",
        what=f"Resolve over mutual TLS with a JSON Web Token on each call, {_OUTSTANDING} outstanding",
        against="the same service in the clear without credentials",
        goal=Goal.AT_LEAST,
        limit=0.90,
        sides=sides,
        ratio_of=lambda sides: sides[0] / sides[1],
        notes=("P4: both sides write their audit records.",),
    )
