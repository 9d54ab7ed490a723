"""P5: how many approvals a second are executed and resolved, against the same three steps as a DBOS workflow."""

import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.approvals import Approvals
from benchmarks.dbos_side.process import dbos_process
from benchmarks.lab import Lab, processes
from benchmarks.result import Goal, Result, Side
from benchmarks.turns import Effort

_OUTSTANDING = 64
_DATABASE = "dbos"
_HOW = (
    "P5: here two services with a call between them, until the approval service has its acknowledgement; there one process "
    "with one transaction a step and no call."
)


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns: half of `effort.calls` approvals a turn here, a tenth of it there, where each takes longer."""
    here, there = effort.calls // 2, effort.calls // 10
    amount = (effort.turns + 1) * here
    missing = "" if lab.environment.is_there or not effort.offline else "DBOS is not installed"
    lab.step(f"P5: making {amount} incidents and their approvals")
    await lab.incidents.investigating(amount)
    ours: list[float] = []
    theirs: list[float] = []
    with ExitStack() as stack:
        other = None
        if not missing:
            python = lab.environment.program("python", needed_for="P5, with its DBOS workflow,")
            url = await lab.empty_database(_DATABASE)
            log_path = lab.directory / "dbos.log"
            other = stack.enter_context(dbos_process(python, url, log_path, outstanding=_OUTSTANDING))
        async with lab.approvals() as approvals:
            approval_ids = await approvals.propose([lab.incidents.id(number) for number in range(amount)])
            await approvals.settled()
            await approvals.vacuum()
            for turn in range(effort.turns + 1):
                lab.step(f"P5: turn {turn} of {effort.turns}")
                with lab.recorder.recording(processes(lab, approvals)):
                    rate = await _rate(approvals, approval_ids[turn * here : (turn + 1) * here])
                other_rate = 0.0 if other is None else other.rate(there)
                # The first turn warms both up and is not kept.
                if turn > 0:
                    ours.append(rate)
                    theirs.append(other_rate)
                await approvals.settled()
                await lab.drained()
            await approvals.expect_acknowledged(amount)
    await lab.incidents.expect_resolved_once(amount)
    await lab.drop_database(_DATABASE)
    sides = [Side("approved, executed and resolved", "approvals/s", ours)]
    return [
        Result(
            number="P5",
            what=f"approvals approved, executed and resolved per second, {_OUTSTANDING} Approve outstanding",
            against="the same three steps as a DBOS workflow, 64 at a time, on the same PostgreSQL",
            goal=Goal.AT_LEAST,
            limit=3.0,
            sides=sides if missing else [*sides, Side("DBOS workflow", "approvals/s", theirs)],
            ratio_of=lambda sides: sides[0] / sides[1],
            notes=(_HOW,),
            unmeasured=missing,
        )
    ]


async def _rate(approvals: Approvals, approval_ids: Sequence[str]) -> float:
    started = time.perf_counter()
    approvals.approve(approval_ids, outstanding=_OUTSTANDING)
    await approvals.resolved()
    return len(approval_ids) / (time.perf_counter() - started)
