"""`kill -9` in the middle of an operation: it may have happened, so that only an operator runs it again."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.client import CallError
from awoooi.incident.v1 import incident_pb2
from tests.approval.hooks import Hooked
from tests.approval.repairs import (
    EventType,
    Repairs,
    assert_left_open,
    logged,
    repairs,
    timeline_events,
)
from tests.approval.schemas import end_leases, rows
from tests.callers import State
from tests.e2e.once import outbox_at_rest
from tests.e2e.operated_world import World, let_leases_end_in, operated_world
from tests.eventually import eventually
from tests.receiver import Held, status
from tests.rpc_errors import refused

# One event loop for what the tests of this file share.
pytestmark = pytest.mark.asyncio(loop_scope="module")

KILLED = -signal.SIGKILL
MAY_HAVE_HAPPENED = "the process that ran it died in the middle: it may or may not have happened"
# The lines at which a process kills itself, and how many requests the hook has got by then.
AT_A_LINE: Mapping[str, int] = {
    "operation_started": 0,
    "operation_announced": 0,
    "operation_done": 1,
}
# Killed while their hooks have the request: one for each test that goes on with one.
IN_FLIGHT = ("refused", "resumed", "resumed_by_many", "resumed_in_vain", "closed", "cooling", "by_the_worker")


@dataclass(frozen=True)
class Killed:
    """Approvals whose processes were killed in the middle, and two processes that found them."""

    world: World
    approvals: Mapping[str, approval_pb2.Approval]
    survivors: Sequence[Hooked]
    # The stats when all had been found, and before an operator went on with one.
    found: Repairs


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with operated_world(tmp_path_factory.mktemp("hooks")) as found:
        yield found


async def _proposed(process: Hooked, world: World, *, auto_execute: bool) -> approval_pb2.Approval:
    return await process.approvals.proposed(
        await world.incidents.opened_id(), process.new_action(), auto_execute=auto_execute
    )


async def _kill_at(world: World, failpoint: str, approval_id: str) -> None:
    async with world.process(FAILPOINTS=failpoint) as process:
        with suppress(CallError):
            await process.approvals.execute(approval_id)
        assert await process.service.ended() == KILLED


async def _kill_in_flight(world: World, process: Hooked, proposed: Mapping[str, str]) -> None:
    world.receiver.answers.extend([Held(status(200))] * len(proposed))
    before = len(world.receiver.requests)
    calls = []
    for name, approval_id in proposed.items():
        await process.approvals.approve(approval_id)
        if name != "by_the_worker":
            calls.append(asyncio.create_task(process.approvals.execute(approval_id)))
    await world.receiver.received(before + len(proposed))
    process.service.send(signal.SIGKILL)
    assert await process.service.ended() == KILLED
    await asyncio.gather(*calls, return_exceptions=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def killed(world: World) -> AsyncIterator[Killed]:
    ids: dict[str, str] = {}
    async with world.process() as process:
        for name in (*AT_A_LINE, *IN_FLIGHT):
            proposed = await _proposed(process, world, auto_execute=name == "by_the_worker")
            ids[name] = proposed.approval_id
        for name in AT_A_LINE:
            await process.approvals.approve(ids[name])
        await outbox_at_rest(world.url)
        await _kill_in_flight(world, process, {name: ids[name] for name in IN_FLIGHT})
    # On a slow machine they might end before the next process is there.
    await let_leases_end_in(world.url, "1 hour")
    for name in AT_A_LINE:
        await _kill_at(world, name, ids[name])
        await let_leases_end_in(world.url, "1 hour")
    # What runs by itself runs as often as it can.
    restless = {"APPROVAL_RECONCILE_EVERY": "50ms", "APPROVAL_EXPIRE_EVERY": "50ms"}
    async with world.process(**restless) as one, world.process(**restless) as other:
        for approval_id in ids.values():
            assert (await one.approvals.get(approval_id)).state == State.STATE_EXECUTING
        await let_leases_end_in(world.url, "0")
        await end_leases(world.url)
        executing = "SELECT FROM approvals WHERE state = 'EXECUTING'"
        await eventually(lambda: rows(world.url, executing), lambda running: not running)
        found = {name: await one.approvals.get(approval_id) for name, approval_id in ids.items()}
        assert {approval.state for approval in found.values()} == {State.STATE_INDETERMINATE}
        await outbox_at_rest(world.url)
        yield Killed(world, found, (one, other), await repairs(one.approvals))


async def test_an_operation_whose_process_was_killed_is_indeterminate_and_says_so(killed: Killed) -> None:
    service = killed.survivors[0].approvals
    for approval in killed.approvals.values():
        assert approval.outcome_message == MAY_HAVE_HAPPENED
        assert approval.HasField("execute_time")
        assert approval.HasField("finish_time")
        [event] = await timeline_events(
            killed.world.incidents, approval.incident_id, EventType.TYPE_EXECUTION_FAILED
        )
        assert event.summary == f"indeterminate: {MAY_HAVE_HAPPENED}"
        assert event.attributes["approval_id"] == approval.approval_id
    # Neither a success nor a failure: it is counted apart, and is not in the log of what was done.
    assert killed.found == Repairs(
        samples=0, successes=0, succeeded=0, failed=0, indeterminate=len(killed.approvals)
    )
    listed = (await service.list(states=[State.STATE_INDETERMINATE]).page()).approvals
    assert killed.approvals["refused"] in listed


async def test_each_was_found_by_one_process_and_raised_the_alarm_once(killed: Killed) -> None:
    ids = {approval.approval_id for approval in killed.approvals.values()}

    async def alarms() -> Sequence[Mapping[str, str]]:
        lines = [line for each in killed.survivors for line in each.service.events("execution_indeterminate")]
        return [line for line in lines if line["approval_id"] in ids]

    # A line comes a moment after the commit that others see.
    found = await eventually(alarms, lambda lines: {line["approval_id"] for line in lines} == ids)
    assert len(found) == len(ids)
    assert {line["level"] for line in found} == {"error"}


@pytest.mark.parametrize(("name", "requests"), [*AT_A_LINE.items(), ("refused", 1), ("by_the_worker", 1)])
async def test_it_is_not_run_again_automatically(killed: Killed, name: str, requests: int) -> None:
    """Workers, the reconciler and the sweeper of two processes have been at it since the fixture."""
    world, approval = killed.world, killed.approvals[name]
    service = killed.survivors[0].approvals
    assert (await service.reconcile()).queued_count == 0
    await outbox_at_rest(world.url)
    assert world.requests(approval.approval_id) == requests
    assert await service.get(approval.approval_id) == approval
    assert not await logged(service, approval.approval_id)
    await assert_left_open(world.incidents, service, approval)


async def test_execute_without_resume_indeterminate_is_refused_with_the_state(killed: Killed) -> None:
    service, approval = killed.survivors[0].approvals, killed.approvals["refused"]
    for call, allowed in (
        (service.execute(approval.approval_id), "APPROVED"),
        (service.approve(approval.approval_id, actor="late"), "PENDING"),
        (service.reject(approval.approval_id, actor="late"), "PENDING"),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "APPROVAL_STATE_NOT_ALLOWED",
        )
        assert refusal.metadata == {"current_state": "INDETERMINATE", "allowed_states": allowed}
    stale = await refused(
        service.execute(approval.approval_id, resume_indeterminate=True, etag=f"{approval.etag}0")
    )
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "APPROVAL_CHANGED")
    assert await service.get(approval.approval_id) == approval
    assert killed.world.requests(approval.approval_id) == 1


async def test_an_operator_has_it_run_once_more_and_it_is_done(killed: Killed) -> None:
    world, approval = killed.world, killed.approvals["resumed"]
    service = killed.survivors[0].approvals
    before = await repairs(service)
    answer = await service.execute(approval.approval_id, resume_indeterminate=True, etag=approval.etag)
    assert answer.approval.state == State.STATE_SUCCEEDED
    assert not answer.already_executed
    first, second = [
        each for each in world.receiver.requests if each.headers["idempotency-key"] == approval.approval_id
    ]
    # The other side can tell that it is the same one.
    assert first.body == second.body
    [row] = await logged(service, approval.approval_id)
    assert row.succeeded
    assert await repairs(service) - before == Repairs(
        samples=1, successes=1, succeeded=1, failed=0, indeterminate=0
    )
    await service.until_delivered(approval.approval_id)
    incident = await world.incidents.get(approval.incident_id)
    assert incident.state == incident_pb2.Incident.STATE_RESOLVED
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED
    again = await service.execute(approval.approval_id, resume_indeterminate=True)
    assert again.already_executed
    assert world.requests(approval.approval_id) == 2


async def test_of_many_who_have_it_run_again_one_runs_it(killed: Killed) -> None:
    world, approval = killed.world, killed.approvals["resumed_by_many"]
    held = Held(status(200))
    world.receiver.answers.append(held)
    before = len(world.receiver.requests)
    calls = [
        asyncio.create_task(
            killed.survivors[turn % 2].approvals.execute(approval.approval_id, resume_indeterminate=True)
        )
        for turn in range(20)
    ]
    await world.receiver.received(before + 1)
    waiting = set(calls)
    while len(waiting) > 1:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            refusal = await refused(each)
            assert refusal.metadata == {
                "current_state": "EXECUTING",
                "allowed_states": "APPROVED, INDETERMINATE",
            }
    held.release.set()
    [ran] = await asyncio.gather(*waiting)
    assert ran.approval.state == State.STATE_SUCCEEDED
    assert world.requests(approval.approval_id) == 2


async def test_one_that_is_run_again_in_vain_has_failed(killed: Killed) -> None:
    world, approval = killed.world, killed.approvals["resumed_in_vain"]
    service = killed.survivors[1].approvals
    world.receiver.answers.append(status(409))
    answer = await service.execute(approval.approval_id, resume_indeterminate=True)
    assert answer.approval.state == State.STATE_FAILED
    assert answer.approval.outcome_message.endswith("answered 409")
    await assert_left_open(world.incidents, service, answer.approval)


async def test_an_operator_may_close_it_without_running_it(killed: Killed) -> None:
    world, approval = killed.world, killed.approvals["closed"]
    service = killed.survivors[0].approvals
    closed = await service.cancel(approval.approval_id, reason="looked: it had happened")
    assert closed.state == State.STATE_CANCELLED
    assert closed.outcome_message == "looked: it had happened"
    refusal = await refused(service.execute(approval.approval_id, resume_indeterminate=True))
    assert refusal.metadata == {
        "current_state": "CANCELLED",
        "allowed_states": "APPROVED, INDETERMINATE",
    }
    assert world.requests(approval.approval_id) == 1
    [event] = await timeline_events(world.incidents, approval.incident_id, EventType.TYPE_CANCELLED)
    assert event.summary == "looked: it had happened"


async def test_a_crash_is_no_way_around_the_cool_down_but_an_operators_word_is(killed: Killed) -> None:
    world, approval = killed.world, killed.approvals["cooling"]
    async with world.process(APPROVAL_COOLDOWN="1h") as process:
        service = process.approvals
        incident_id = await world.incidents.opened_id()
        again = await service.executed(incident_id, approval.action)
        assert again.state == State.STATE_FAILED
        assert again.outcome_message.startswith("cool-down: the target was operated on ")
        assert world.requests(again.approval_id) == 0
        resumed = await service.execute(approval.approval_id, resume_indeterminate=True)
        assert resumed.approval.state == State.STATE_SUCCEEDED
    assert world.requests(approval.approval_id) == 2


async def test_a_process_that_stood_still_past_its_lease_changes_nothing_any_more(
    world: World, killed: Killed
) -> None:
    async with world.process() as frozen:
        approval = await _proposed(frozen, world, auto_execute=True)
        held = Held(status(200))
        world.receiver.answers.append(held)
        before = len(world.receiver.requests)
        await frozen.approvals.approve(approval.approval_id)
        await world.receiver.received(before + 1)
        frozen.service.send(signal.SIGSTOP)
        await let_leases_end_in(world.url, "0")
        service = killed.survivors[0].approvals
        found = await eventually(
            lambda: service.get(approval.approval_id),
            lambda each: each.state == State.STATE_INDETERMINATE,
        )
        # The hook has done it: the process learns of that, too late.
        held.release.set()
        frozen.service.send(signal.SIGCONT)
        await frozen.service.logged("background_execution_too_late", approval_id=approval.approval_id)
    assert await service.get(approval.approval_id) == found
    assert not await logged(service, approval.approval_id)
    await assert_left_open(world.incidents, service, found)
    assert world.requests(approval.approval_id) == 1
