"""`kill -9` while a repair is verified: another process goes on, and nothing is resolved too early or twice."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from awoooi.incident.v1 import incident_pb2
from tests.approval.conftest import AT_REST
from tests.approval.integration.recovery.conftest import Recovery
from tests.approval.repairs import EventType, assert_left_open, timeline_events
from tests.approval.schemas import approval_database, end_leases, rows
from tests.approval.simulated_target import SimulatedTarget, simulated_target, verified_by
from tests.callers import Approvals, Incidents, State, approvals_at
from tests.e2e.operated_world import let_leases_end_in
from tests.eventually import eventually
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class World:
    """Processes of the approval service over one database, and the target whose repairs they verify."""

    target: SimulatedTarget
    incidents: Incidents
    url: str
    variables: Mapping[str, str]

    @asynccontextmanager
    async def process(self, **variables: str) -> AsyncIterator[tuple[Approvals, RunningService]]:
        """One process."""
        async with (
            healthy_service("approval", self.url, variables={**self.variables, **variables}) as running,
            approvals_at(running.address) as approvals,
        ):
            yield approvals, running

    async def killed_at(self, failpoint: str) -> None:
        """A process that kills itself at a line of its next look."""
        await rows(self.url, "UPDATE recoveries SET next_look_time = now()")
        # Not until it is healthy: it may be dead before.
        variables = {**self.variables, "FAILPOINTS": failpoint}
        running = await asyncio.to_thread(RunningService, "approval", self.url, variables=variables)
        assert await running.ended() == KILLED


@pytest_asyncio.fixture(loop_scope="session")
async def world(
    incident_service: RunningService, incidents: Incidents, tmp_path: Path
) -> AsyncIterator[World]:
    async with simulated_target() as target, approval_database() as url:
        variables = {
            **AT_REST,
            "APPROVAL_INCIDENT_TARGET": incident_service.address,
            **verified_by(target, tmp_path),
        }
        yield World(target, incidents, url, variables)


async def test_a_recovery_goes_on_after_every_kill(world: World) -> None:
    fields = {helps: world.target.fire() for helps in (True, False)}
    # No look before the first kill.
    async with world.process(APPROVAL_VERIFIER_INTERVAL="30m") as (approvals, _):
        repairs = {
            helps: await approvals.executed(
                await world.incidents.opened_id(**fields[helps]),
                world.target.hook(int(helps), ends=fields[helps]["fingerprint"] if helps else ""),
            )
            for helps in fields
        }
    for failpoint in ("look_claimed", "look_done", "look_before_commit"):
        await world.killed_at(failpoint)
    state = "SELECT looks_without_alert FROM recoveries"
    assert await rows(world.url, state) == [(0,), (0,)]

    async with world.process() as (approvals, _):
        await rows(world.url, "UPDATE recoveries SET next_look_time = now()")
        helpful = await eventually(
            lambda: approvals.get(repairs[True].approval_id),
            lambda found: found.recovery != Recovery.RECOVERY_PENDING,
        )
        assert helpful.recovery == Recovery.RECOVERY_VERIFIED
        await approvals.until_delivered(helpful.approval_id)
        await timeline_events(
            world.incidents,
            helpful.incident_id,
            EventType.TYPE_EXECUTED,
            EventType.TYPE_RECOVERED,
            EventType.TYPE_RESOLVED,
        )
        useless = await approvals.get(repairs[False].approval_id)
        assert useless.recovery == Recovery.RECOVERY_PENDING
        await assert_left_open(world.incidents, approvals, useless)
        assert (await approvals.stats()).recoveries.verified == 1
    # Each repair was run once.
    assert sorted(world.target.calls) == ["/hook-0", "/hook-1"]


async def test_an_operation_that_was_killed_before_its_outcome_was_written_has_no_recovery(
    world: World,
) -> None:
    incident_id = await world.incidents.opened_id(**world.target.fire())
    async with world.process(FAILPOINTS="operation_done") as (approvals, running):
        approval = await approvals.approved(incident_id, world.target.hook(0), auto_execute=True)
        assert await running.ended() == KILLED
    assert world.target.calls == ["/hook-0"]

    async with world.process() as (approvals, _):
        await end_leases(world.url)
        await let_leases_end_in(world.url, "0")
        found = await eventually(
            lambda: approvals.get(approval.approval_id),
            lambda each: each.state == State.STATE_INDETERMINATE,
        )
        assert found.recovery == Recovery.RECOVERY_UNSPECIFIED
        await assert_left_open(world.incidents, approvals, found)


async def test_what_is_pending_ends_when_no_process_has_a_verifier_any_more(world: World) -> None:
    async with world.process(APPROVAL_VERIFIER_INTERVAL="30m") as (approvals, _):
        incident_id = await world.incidents.opened_id(**world.target.fire())
        approval = await approvals.executed(incident_id, world.target.hook(0))
    async with world.process(APPROVAL_VERIFIER="", APPROVAL_RECONCILE_EVERY="50ms") as (approvals, _):
        # A row that was removed by hand is made again.
        await rows(world.url, "DELETE FROM recoveries")
        await eventually(lambda: rows(world.url, "SELECT FROM recoveries"))
        assert (await approvals.get(approval.approval_id)).recovery == Recovery.RECOVERY_PENDING
        await rows(world.url, "UPDATE recoveries SET deadline = now() - interval '61 seconds'")
        found = await eventually(
            lambda: approvals.get(approval.approval_id),
            lambda each: each.recovery != Recovery.RECOVERY_PENDING,
        )
        assert found.recovery == Recovery.RECOVERY_NOT_RECOVERED
        assert found.recovery_message == "could not be verified: no verifier is configured"
        # Without a verifier an operation that works resolves its incident, as before, and is marked.
        other = await world.incidents.opened_id(**world.target.fire())
        unverified = await approvals.executed(other, world.target.hook(1))
        assert unverified.recovery == Recovery.RECOVERY_UNVERIFIED
        assert unverified.recovery_time == unverified.finish_time
        assert not unverified.HasField("recovery_deadline")
        await approvals.until_delivered(unverified.approval_id)
        resolved = await world.incidents.get(other)
        assert resolved.resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED
        total = {each.recovery: each.count for each in (await approvals.stats()).recoveries.recoveries_total}
        assert total == {
            Recovery.RECOVERY_VERIFIED: 0,
            Recovery.RECOVERY_NOT_RECOVERED: 1,
            Recovery.RECOVERY_UNVERIFIED: 1,
        }
