"""P4: how long one caller waits from Approve until the incident is RESOLVED, against what the way there takes alone."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from statistics import median

from awoooi.approval.v1 import approval_service_pb2 as pb
from benchmarks.approvals import APPROVE_PATH, Approvals
from benchmarks.errors import BenchmarkError
from benchmarks.http2 import Connection, length_prefixed
from benchmarks.lab import Lab, open_connection, processes
from benchmarks.pgbench import Script, run_pgbench
from benchmarks.result import Goal, Result, Side, quantile
from benchmarks.turns import Effort, MeasuredServer

# Approve, Execute and Resolve commit once each; the calls are Approve, Resolve and their answers' ways through two services.
_ROUND_TRIPS, _COMMITS = 4, 3
_WAIT_SECONDS = 30.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS benchmark_commits (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)"
)
_COMMIT = Script("INSERT INTO benchmark_commits DEFAULT VALUES;\n", [])


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns: bound by `effort.calls_one_caller` approvals a turn, the next one when the incident is RESOLVED."""
    calls = effort.calls_one_caller
    amount = (effort.turns + 1) * calls
    lab.step(f"P4: making {amount} incidents and their approvals")
    await lab.incidents.investigating(amount)
    async with open_connection(lab.twin_url) as connection:
        await connection.execute(_TABLE)
    incident_ids = [lab.incidents.id(number) for number in range(amount)]
    waits: list[Sequence[float]] = []
    commits: list[float] = []
    echo = MeasuredServer(lab, lab.echo, 1, 1)
    async with lab.approvals() as approvals, _resolved(lab) as resolved:
        approval_ids = await approvals.propose(incident_ids)
        await approvals.settled()
        for turn in range(effort.turns + 1):
            lab.step(f"P4: turn {turn} of {effort.turns}")
            mine = slice(turn * calls, (turn + 1) * calls)
            commit = median(await run_pgbench(lab.twin_url, _COMMIT, first=0, transactions=calls))
            with lab.recorder.recording(processes(lab, approvals)):
                taken = await _one_at_a_time(approvals, approval_ids[mine], incident_ids[mine], resolved)
            # The first turn warms both up and is not kept.
            if turn > 0:
                commits.append(commit)
                echo.turn(lab.incidents.requests(range(calls)))
                waits.append(taken)
            await approvals.settled()
            await lab.drained()
        await approvals.expect_acknowledged(amount)
    await lab.incidents.expect_resolved_once(amount)
    return [
        Result(
            number="P4",
            what="Approve until the incident is RESOLVED, one at a time, median; NO_ACTION with auto_execute",
            against="four echo round trips + three commits of one row by pgbench, medians",
            goal=Goal.AT_MOST,
            limit=3.0,
            sides=[
                Side("Approve until RESOLVED", "ms", [median(turn) * 1e3 for turn in waits]),
                Side("echo", "ms", [load.median_latency * 1e3 for load in echo.loads]),
                Side("commit by pgbench", "ms", [seconds * 1e3 for seconds in commits]),
                Side("Approve until RESOLVED, p99", "ms", [quantile(turn, 0.99) * 1e3 for turn in waits]),
            ],
            ratio_of=lambda sides: sides[0] / (_ROUND_TRIPS * sides[1] + _COMMITS * sides[2]),
            notes=["P4: RESOLVED is seen by a notification that comes with the commit."],
        )
    ]


class _Resolutions:
    """The incidents that are RESOLVED, each known at its commit."""

    def __init__(self) -> None:
        self._seen: dict[str, asyncio.Future[float]] = {}

    def see(self, incident_id: str) -> None:
        self._future(incident_id).set_result(time.perf_counter())

    async def of(self, incident_id: str) -> float:
        """Return when it was RESOLVED."""
        async with asyncio.timeout(_WAIT_SECONDS):
            return await self._future(incident_id)

    def _future(self, incident_id: str) -> "asyncio.Future[float]":
        return self._seen.setdefault(incident_id, asyncio.get_running_loop().create_future())


@asynccontextmanager
async def _resolved(lab: Lab) -> AsyncIterator[_Resolutions]:
    resolutions = _Resolutions()
    async with lab.incidents.notifying(resolutions.see):
        yield resolutions


async def _one_at_a_time(
    approvals: Approvals,
    approval_ids: Sequence[str],
    incident_ids: Sequence[str],
    resolved: _Resolutions,
) -> Sequence[float]:
    """Approve one after the other, and return the seconds until the incident of each was RESOLVED."""
    loop = asyncio.get_running_loop()
    server = approvals.server
    taken: list[float] = []
    with closing(Connection(server.address, APPROVE_PATH, outstanding=1, access=server.access)) as connection:
        loop.add_reader(connection.fileno(), connection.receive)
        try:
            for approval_id, incident_id in zip(approval_ids, incident_ids, strict=True):
                message = pb.ApproveRequest(approval_id=approval_id).SerializeToString()
                started = time.perf_counter()
                connection.send(iter([length_prefixed(message)]))
                taken.append(await resolved.of(incident_id) - started)
        except TimeoutError as exc:
            raise BenchmarkError(f"an incident was not RESOLVED within {_WAIT_SECONDS:.0f} s") from exc
        finally:
            loop.remove_reader(connection.fileno())
    return taken
