"""P6: how many deliveries a second reach an incident service that is back after an outage, against P1's rate."""

import time
from collections.abc import Sequence

from benchmarks.incidents import Incidents
from benchmarks.lab import Lab, open_connection
from benchmarks.result import Goal, Result, Side
from benchmarks.servers import free_address, incident_service
from benchmarks.turns import FEW_TURNS, Effort, MeasuredServer

_OUTSTANDING = 64
_CONNECTIONS = 4
_DATABASE = "incident_outage"


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns: `effort.backlog` approvals are approved and executed while the incident service is down; then it is back."""
    turns, backlog = min(effort.turns, FEW_TURNS), effort.backlog
    lab.step(f"P6: making {turns * effort.calls} incidents")
    await lab.incidents.investigating((turns + 1) * effort.calls)
    resolve = MeasuredServer(lab, lab.service, _OUTSTANDING, _CONNECTIONS)
    MeasuredServer(lab, lab.service, _OUTSTANDING, _CONNECTIONS).turn(
        lab.incidents.requests(range(effort.calls))
    )
    await lab.drained()
    drains: list[float] = []
    for turn in range(1, turns + 1):
        lab.step(f"P6: turn {turn} of {turns}: {backlog} approvals while the incident service is down")
        drains.append(await _drain(lab, backlog))
        lab.step(f"P6: turn {turn} of {turns}: Resolve")
        resolve.turn(lab.incidents.requests(range(turn * effort.calls, (turn + 1) * effort.calls)))
        await lab.drained()
    return [
        Result(
            number="P6",
            what=f"drain of {backlog:,} deliveries after an outage of minutes, from the first moment that the service serves",
            against=f"P1's Resolve, {_OUTSTANDING} outstanding",
            goal=Goal.AT_LEAST,
            limit=0.8,
            sides=[
                Side("deliveries", "resolves/s", drains),
                Side("Resolve", "calls/s", [load.rate for load in resolve.loads], resolve.processor),
            ],
            ratio_of=lambda sides: sides[0] / sides[1],
            notes=("P6: the backoffs of the deliveries are those of an outage of minutes: up to 60 s.",),
        )
    ]


async def _drain(lab: Lab, backlog: int) -> float:
    """Return how many resolves a second are acknowledged."""
    url = await lab.new_database(_DATABASE)
    address = free_address()
    async with open_connection(url) as connection, lab.approvals(address) as approvals:
        incidents = Incidents(connection)
        await incidents.investigating(backlog)
        settings = {"INCIDENT_LISTEN": address}
        with incident_service(url, lab.directory / "outage.log", settings=settings):
            approval_ids = await approvals.propose([incidents.id(number) for number in range(backlog)])
            await approvals.settled()
        # Now it is down.
        approvals.approve(approval_ids, outstanding=_OUTSTANDING)
        await approvals.executed()
        await approvals.vacuum()
        await approvals.age_backoffs()
        with incident_service(url, lab.directory / "outage.log", settings=settings) as service:
            started = time.perf_counter()
            recorded = {"approval": approvals.server.process.pid, "incident": service.process.pid}
            with lab.recorder.recording(recorded):
                await approvals.resolved()
            rate = backlog / (time.perf_counter() - started)
        await approvals.expect_acknowledged(backlog)
        await incidents.expect_resolved_once(backlog)
    await lab.drop_database(_DATABASE)
    return rate
