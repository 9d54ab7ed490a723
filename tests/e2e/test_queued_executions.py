"""An execution is queued by the transaction that decides: when any process dies after it, the action is executed once."""

import signal
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.client import CallError
from awoooi.incident.v1 import incident_pb2
from tests.approval.repairs import assert_left_open, logged
from tests.approval.schemas import end_leases, rows
from tests.callers import State
from tests.e2e.once import outbox_at_rest
from tests.e2e.operated_world import World, let_leases_end_in, operated_world
from tests.eventually import eventually
from tests.receiver import Held, status

# One event loop for what the tests of this file share.
pytestmark = pytest.mark.asyncio(loop_scope="module")

KILLED = -signal.SIGKILL
QUEUE = "approval.execute"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with operated_world(tmp_path_factory.mktemp("hooks")) as found:
        yield found


async def _proposed(world: World) -> approval_pb2.Approval:
    """An operation that is run as soon as somebody approves it; nothing else is under way."""
    async with world.process() as process:
        proposed = await process.approvals.proposed(
            await world.incidents.opened_id(), process.new_action(), auto_execute=True
        )
        await outbox_at_rest(world.url)
    return proposed


async def _approve_and_die(world: World, failpoint: str, approval_id: str) -> None:
    async with world.process(FAILPOINTS=f"{failpoint}:{QUEUE}") as process:
        # Killed before it answers, or after: the caller may see either.
        with suppress(CallError):
            await process.approvals.approve(approval_id)
        assert await process.service.ended() == KILLED


async def test_who_dies_right_after_the_decision_leaves_an_execution_that_another_one_runs_once(
    world: World,
) -> None:
    proposed = await _proposed(world)
    approval_id = proposed.approval_id
    await _approve_and_die(world, "outbox_claimed", approval_id)
    assert world.requests(approval_id) == 0
    # Written by one transaction: the decision, the state that it led to, and the execution.
    writers = await rows(
        world.url,
        """
        SELECT approvals.state, approvals.xmin = approval_decisions.xmin, approvals.xmin = outbox.xmin
        FROM approvals JOIN approval_decisions USING (approval_id) JOIN outbox ON dedup_key = approval_id
        WHERE topic = $1 AND approval_id = $2
        """,
        QUEUE,
        approval_id,
    )
    assert writers == [("APPROVED", True, True)]

    async with world.process() as process:
        service = process.approvals
        # Who was not answered approves again.
        retried = await service.approve(approval_id)
        assert len(retried.decisions) == 1
        await end_leases(world.url)
        done = await service.until_delivered(approval_id)
        assert done.state == State.STATE_SUCCEEDED
        assert len(done.decisions) == 1
        await outbox_at_rest(world.url)
        assert len(await logged(service, approval_id)) == 1
    assert world.requests(approval_id) == 1
    incident = await world.incidents.get(proposed.incident_id)
    assert (incident.resolution_type, incident.resolution_number) == (
        incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED,
        1,
    )


@pytest.mark.parametrize("failpoint", ["outbox_delivered", "outbox_before_done_commit"])
async def test_who_dies_after_it_was_started_and_before_the_queue_knows_leaves_nothing_to_run_again(
    world: World, failpoint: str
) -> None:
    proposed = await _proposed(world)
    approval_id = proposed.approval_id
    # The hook may have been called or not: it holds what it gets.
    world.receiver.answers.append(Held(status(200)))
    await _approve_and_die(world, failpoint, approval_id)
    queued = "SELECT state FROM outbox WHERE topic = $1 AND dedup_key = $2"
    assert await rows(world.url, queued, QUEUE, approval_id) == [("PENDING",)]

    async with world.process() as process:
        # As long as its lease runs, the operation may be another process's: the job is tried again.
        await end_leases(world.url)
        attempts = "SELECT attempts FROM outbox WHERE topic = $1 AND dedup_key = $2"
        await eventually(
            lambda: rows(world.url, attempts, QUEUE, approval_id), lambda found: found[0][0] >= 2
        )
        await let_leases_end_in(world.url, "0")
        found = await eventually(
            lambda: process.approvals.get(approval_id),
            lambda each: each.state == State.STATE_INDETERMINATE,
        )
        await end_leases(world.url)
        await process.service.logged("background_execution_dropped", approval_id=approval_id)
        await outbox_at_rest(world.url)
        await assert_left_open(world.incidents, process.approvals, found)
    assert world.requests(approval_id) <= 1
    world.receiver.answers.clear()


async def test_who_has_no_executor_leaves_the_execution_to_who_has_one(world: World) -> None:
    approval_id = (await _proposed(world)).approval_id
    await _approve_and_die(world, "outbox_claimed", approval_id)
    attempts = "SELECT attempts FROM outbox WHERE topic = $1 AND dedup_key = $2"
    async with world.process(APPROVAL_EXECUTORS="") as without:
        await end_leases(world.url)
        # The first attempt died.
        await eventually(
            lambda: rows(world.url, attempts, QUEUE, approval_id), lambda found: found[0][0] >= 3
        )
        assert (await without.approvals.get(approval_id)).state == State.STATE_APPROVED
        async with world.process() as process:
            done = await eventually(
                lambda: process.approvals.get(approval_id),
                lambda each: each.HasField("incident_resolve_time"),
            )
    assert done.state == State.STATE_SUCCEEDED
    assert world.requests(approval_id) == 1


async def test_a_stopping_service_lets_a_running_operation_end(world: World) -> None:
    approval_id = (await _proposed(world)).approval_id
    held = Held(status(200))
    world.receiver.answers.append(held)
    before = len(world.receiver.requests)
    async with world.process() as process:
        await process.approvals.approve(approval_id)
        await world.receiver.received(before + 1)
        process.service.send(signal.SIGTERM)
        await process.service.logged("stopping")
        held.release.set()
        assert await process.service.ended() == 0
    ended = """
        SELECT state, succeeded FROM approvals JOIN auto_repair_executions USING (approval_id)
        WHERE approval_id = $1
    """
    assert await rows(world.url, ended, approval_id) == [("SUCCEEDED", True)]
