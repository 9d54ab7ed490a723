"""P10: whether a service grows with what it has done: its resident memory after many Resolves, against that after a few."""

from collections.abc import Sequence

from benchmarks.incidents import Incidents
from benchmarks.lab import Lab, open_connection
from benchmarks.result import Goal, Result, Side
from benchmarks.servers import incident_service
from benchmarks.turns import Effort, MeasuredServer

_OUTSTANDING = 64
_CONNECTIONS = 4
_DATABASE = "incident_memory"
_BATCH = 10_000
_LIMIT_MB = 110.0


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure once, in a new process: bound by `effort.memory` Resolves, which take a minute or more."""
    few, many = effort.memory
    lab.step(f"P10: making {many:,} incidents")
    url = await lab.new_database(_DATABASE)
    async with open_connection(url) as connection:
        incidents = Incidents(connection)
        await incidents.investigating(many)
        with incident_service(url, lab.directory / "memory.log") as service:
            server = MeasuredServer(lab, service, _OUTSTANDING, _CONNECTIONS)
            after_few = await _resident(lab, server, incidents, range(few))
            after_many = after_few
            for first in range(few, many, _BATCH):
                numbers = range(first, min(first + _BATCH, many))
                lab.step(f"P10: {first:,} of {many:,} Resolves")
                after_many = await _resident(lab, server, incidents, numbers)
        await incidents.expect_resolved_once(many)
    await lab.drop_database(_DATABASE)
    small = Side(f"resident memory after {few:,} Resolves", "MB", [after_few])
    large = Side(f"resident memory after {many:,} Resolves", "MB", [after_many])
    return [
        Result(
            number="P10",
            what=f"resident memory of the incident service after {many:,} Resolves and their effects; one round, it takes minutes",
            against=f"after {few:,}",
            goal=Goal.AT_MOST,
            limit=1.1,
            sides=[large, small],
            ratio_of=lambda sides: sides[0] / sides[1],
        ),
        Result(
            number="P10",
            what=f"the same after {many:,} Resolves, in MB",
            against="a fixed size",
            goal=Goal.AT_MOST,
            limit=_LIMIT_MB,
            sides=[large],
            ratio_of=lambda sides: sides[0],
        ),
    ]


async def _resident(lab: Lab, server: MeasuredServer, incidents: Incidents, numbers: range) -> float:
    """Resolve these incidents and return the megabytes that the service has when their effects are done."""
    server.turn(incidents.requests(numbers))
    await lab.drained(incidents)
    return server.server.resident_bytes() / 1e6
