"""P13: what protection costs: Resolve over mutual TLS with a verified token and its audit record, against none of the three."""

from collections.abc import Sequence

from benchmarks.lab import Lab
from benchmarks.result import Goal, Result, Side
from benchmarks.turns import Effort, MeasuredServer
from incident.model import Effect

_OUTSTANDING = 64
_CONNECTIONS = 4


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns; the effects of one side are done before the other's turn begins."""
    total = (effort.turns + 1) * effort.calls
    async with lab.protected() as (protected, its_incidents), lab.unaudited() as (bare, bare_incidents):
        lab.step(f"P13: making {total} incidents in two databases")
        for incidents in (bare_incidents, its_incidents):
            await incidents.investigating(total)
        # The turn before the first warms both up and is not kept.
        warming = MeasuredServer(lab, bare, _OUTSTANDING, _CONNECTIONS)
        warming_too = MeasuredServer(lab, protected, _OUTSTANDING, _CONNECTIONS)
        clear = MeasuredServer(lab, bare, _OUTSTANDING, _CONNECTIONS)
        tls = MeasuredServer(lab, protected, _OUTSTANDING, _CONNECTIONS)
        for turn in range(effort.turns + 1):
            lab.step(f"P13: turn {turn} of {effort.turns}")
            numbers = range(turn * effort.calls, (turn + 1) * effort.calls)
            (clear if turn else warming).turn(bare_incidents.requests(numbers))
            await lab.drained(bare_incidents)
            (tls if turn else warming_too).turn(its_incidents.requests(numbers))
            await lab.drained(its_incidents)
        for incidents in (bare_incidents, its_incidents):
            await incidents.expect(resolved=total, jobs_each=len(Effect))
        await its_incidents.expect_audited(total)
        await bare_incidents.expect_audited(0)
    sides = [
        Side(
            "Resolve over mTLS with a token, audited",
            "calls/s",
            [load.rate for load in tls.loads],
            tls.processor,
        ),
        Side(
            "Resolve in the clear, without audit",
            "calls/s",
            [load.rate for load in clear.loads],
            clear.processor,
        ),
    ]
    return [
        Result(
            number="P13",
            what=f"Resolve over mutual TLS with a JSON Web Token on each call and an audit record, {_OUTSTANDING} outstanding",
            against="the same service in the clear, without credentials and without its audit trail",
            goal=Goal.AT_LEAST,
            limit=0.90,
            sides=sides,
            ratio_of=lambda sides: sides[0] / sides[1],
            notes=(
                f"P13: the trail has {total} Resolves on the one side and none on the other, which is composed for this benchmark.",
            ),
        )
    ]
