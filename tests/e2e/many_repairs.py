"""Many repairs at once, half of them useless, verified by processes that are killed: none is wrongly resolved.

`python -m tests.e2e.many_repairs --repairs 200 --kills 20` is the long form of what the suite runs.
"""

import argparse
import asyncio
import random
import signal
import tempfile
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.approval.schemas import approval_database, incident_database, rows
from tests.approval.simulated_target import ACTIVE, GONE, SimulatedTarget, simulated_target, verified_by
from tests.callers import Approvals, Incidents, approvals_at, incidents_at
from tests.databases import SharedRun
from tests.eventually import eventually
from tests.receiver import status
from tests.services import RunningService, healthy_service

Recovery = approval_pb2.Recovery
_REPLICAS = 2


@dataclass
class Outcome:
    """What became of the repairs."""

    verified: int = 0
    not_recovered: int = 0
    # Of repairs that did not help.
    wrongly_resolved: int = 0
    # Of repairs that helped.
    left_open: int = 0
    resolved_twice: int = 0
    kills: int = 0
    looks: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class _World:
    target: SimulatedTarget
    incidents: Incidents
    url: str
    variables: Mapping[str, str]
    replicas: list[RunningService]
    chance: random.Random
    stack: AsyncExitStack

    async def start(self) -> None:
        """One more replica."""
        self.replicas.append(
            await self.stack.enter_async_context(
                healthy_service("approval", self.url, variables=self.variables)
            )
        )

    async def kill(self) -> None:
        """`kill -9` of one, and another in its place; its looks are due at once."""
        victim = self.replicas.pop(self.chance.randrange(len(self.replicas)))
        victim.send(signal.SIGKILL)
        await victim.ended()
        await rows(self.url, "UPDATE recoveries SET next_look_time = now()")
        await self.start()


async def run(*, repairs: int, kills: int, seed: int) -> Outcome:
    """Execute so many repairs, every second one useless, and verify them."""
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(simulated_target())
        incident_url = await stack.enter_async_context(incident_database())
        service = await stack.enter_async_context(healthy_service("incident", incident_url))
        incidents = await stack.enter_async_context(incidents_at(service.address))
        url = await stack.enter_async_context(approval_database())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        variables = {
            "APPROVAL_INCIDENT_TARGET": service.address,
            **verified_by(target, folder, hooks=repairs),
        }
        world = _World(target, incidents, url, variables, [], random.Random(seed), stack)  # noqa: S311 - repeatable
        for _ in range(_REPLICAS):
            await world.start()
        return await _run(world, repairs, kills)


async def _run(world: _World, repairs: int, kills: int) -> Outcome:
    executed: dict[str, bool] = {}
    for number in range(repairs):
        helps = number % 2 == 0
        approvals = await world.stack.enter_async_context(approvals_at(world.replicas[0].address))
        executed[await _repair(world, approvals, number, helps=helps)] = helps
    for _ in range(kills):
        await asyncio.sleep(world.chance.random())
        await world.kill()
    approvals = await world.stack.enter_async_context(approvals_at(world.replicas[0].address))
    for approval_id, helps in executed.items():
        if helps:
            await _ended(approvals, approval_id)
            await approvals.until_delivered(approval_id)
    # Those that helped are known; the windows of all others end now.
    await rows(world.url, "UPDATE recoveries SET deadline = now() - interval '1 hour'")
    outcome = Outcome(kills=kills, looks=sum(world.target.looks.values()))
    for approval_id, helps in executed.items():
        await _judge(world, await _ended(approvals, approval_id), outcome, helps=helps)
    return outcome


async def _repair(world: _World, approvals: Approvals, number: int, *, helps: bool) -> str:
    """Execute a repair; what its looks find at first is left to chance, and how Alertmanager answers."""
    fields = world.target.fire()
    fingerprint = fields["fingerprint"]
    incident_id = await world.incidents.opened_id(**fields)
    flaps = [GONE, ACTIVE] * world.chance.randrange(8)
    world.target.scripts[fingerprint] = deque(flaps if helps else [*flaps * 1_000])
    world.target.failure = status(503) if world.chance.random() < 0.3 else None
    action = world.target.hook(number, ends=fingerprint if helps else "")
    approval = await approvals.executed(incident_id, action)
    world.target.failure = None
    return approval.approval_id


async def _ended(approvals: Approvals, approval_id: str) -> approval_pb2.Approval:
    return await eventually(
        lambda: approvals.get(approval_id), lambda found: found.recovery != Recovery.RECOVERY_PENDING
    )


async def _judge(world: _World, approval: approval_pb2.Approval, outcome: Outcome, *, helps: bool) -> None:
    incident = await world.incidents.get(approval.incident_id)
    is_resolved = incident.state == incident_pb2.Incident.STATE_RESOLVED
    types = Counter(await world.incidents.event_types(approval.incident_id))
    outcome.verified += approval.recovery == Recovery.RECOVERY_VERIFIED
    outcome.not_recovered += approval.recovery == Recovery.RECOVERY_NOT_RECOVERED
    outcome.wrongly_resolved += is_resolved and not helps
    outcome.left_open += helps and not is_resolved
    outcome.resolved_twice += types["RESOLVED"] > 1 or types["RECOVERED"] > 1
    if is_resolved is not helps:
        outcome.wrong.append(f"{approval.approval_id}: {approval.recovery_message}")


def main() -> None:
    """Run the long form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repairs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    databases = SharedRun()
    try:
        outcome = asyncio.run(run(repairs=options.repairs, kills=options.kills, seed=options.seed))
    finally:
        databases.end()
    print(outcome)
    raise SystemExit(bool(outcome.wrongly_resolved or outcome.left_open or outcome.resolved_twice))


if __name__ == "__main__":
    main()
