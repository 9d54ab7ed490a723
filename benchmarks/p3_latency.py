"""P3: how long one caller waits for a Resolve, against what its two halves take alone: an answer, and the statement."""

from collections.abc import Sequence
from statistics import median

from benchmarks.errors import BenchmarkError
from benchmarks.lab import Lab
from benchmarks.pgbench import Script, find_script, run_pgbench
from benchmarks.result import Goal, Result, Side
from benchmarks.turns import Effort, MeasuredServer
from incident.model import Effect

# Incidents that are resolved to see the statement.
_SPARE = 10


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns; pgbench has a database of its own, so that no effects are done beside it."""
    calls, effects = effort.calls_one_caller, len(Effect)
    amount = (effort.turns + 1) * calls
    lab.step(f"P3: making {amount} incidents in two databases")
    await lab.incidents.investigating(amount + _SPARE)
    await lab.twins.investigating(amount)
    script, seen = await _see_statement(lab, range(amount, amount + _SPARE))
    echo = MeasuredServer(lab, lab.echo, 1, 1)
    service = MeasuredServer(lab, lab.service, 1, 1)
    statements: list[float] = []
    for turn in range(effort.turns + 1):
        lab.step(f"P3: turn {turn} of {effort.turns}")
        first = turn * calls
        messages = lab.incidents.requests(range(first, first + calls))
        statement = median(await run_pgbench(lab.twin_url, script, first=first, transactions=calls))
        if turn == 0:
            MeasuredServer(lab, lab.echo, 1, 1).turn(messages)
            MeasuredServer(lab, lab.service, 1, 1).turn(messages)
        else:
            statements.append(statement)
            echo.turn(messages)
            service.turn(messages)
        await lab.drained()
    await lab.incidents.expect(resolved=amount + seen, jobs_each=effects)
    await lab.twins.expect(resolved=amount, jobs_each=effects)
    sides = [
        Side("Resolve", "ms", [load.median_latency * 1e3 for load in service.loads], service.processor),
        Side("echo", "ms", [load.median_latency * 1e3 for load in echo.loads], echo.processor),
        Side("the same SQL by pgbench", "ms", [seconds * 1e3 for seconds in statements]),
    ]
    return [
        Result(
            number="P3",
            what="Resolve, one caller, median latency",
            against="echo + the same SQL through pgbench, one client, medians",
            goal=Goal.AT_MOST,
            limit=2.0,
            sides=sides,
            ratio_of=lambda sides: sides[0] / (sides[1] + sides[2]),
        )
    ]


async def _see_statement(lab: Lab, spare: range) -> tuple[Script, int]:
    """Return the script of the statement that the service sends, and how many of the incidents were resolved to see it."""
    async with lab.statements_logged() as read_log:
        for seen, number in enumerate(spare, 1):
            MeasuredServer(lab, lab.service, 1, 1).turn(lab.incidents.requests([number]))
            await lab.drained()
            script = find_script(read_log(), lab.incidents.id(number), lab.incidents.id_sql)
            if script is not None:
                return script, seen
    raise BenchmarkError("PostgreSQL's log does not show the statement that resolves an incident")
