"""An operation that runs: its record, its caller and its expiry."""

import asyncio
import time
from contextlib import suppress

import grpc
import pytest

from tests.approval.hooks import Hooked
from tests.approval.repairs import logged, until_ended
from tests.approval.schemas import rows
from tests.callers import Incidents, State
from tests.eventually import eventually
from tests.receiver import Held, status
from tests.rpc_errors import refused

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_duration_of_an_operation_is_on_record(hooked: Hooked, incidents: Incidents) -> None:
    held = Held(status(200))
    hooked.receiver.answers.append(held)
    approval = await hooked.approvals.approved(
        await incidents.opened_id(), hooked.new_action(), auto_execute=True
    )
    await eventually(lambda: _is_called(hooked, approval.approval_id))
    running = await hooked.approvals.get(approval.approval_id)
    assert running.state == State.STATE_EXECUTING
    assert running.HasField("execute_time")
    assert not running.HasField("finish_time")
    assert not await logged(hooked.approvals, approval.approval_id)
    began, ended = running.execute_time.ToNanoseconds(), time.time_ns()
    held.release.set()
    await until_ended(hooked.approvals, approval.approval_id)
    [row] = await logged(hooked.approvals, approval.approval_id)
    assert row.start_time.ToNanoseconds() == began < ended <= row.finish_time.ToNanoseconds()


async def test_a_running_operation_survives_its_caller_and_allows_no_transition(
    hooked: Hooked, incidents: Incidents
) -> None:
    approvals = hooked.approvals
    held = Held(status(200))
    hooked.receiver.answers.append(held)
    approval_id = (await approvals.approved(await incidents.opened_id(), hooked.new_action())).approval_id
    calling = asyncio.create_task(approvals.execute(approval_id))
    await eventually(lambda: _is_called(hooked, approval_id))
    calling.cancel()
    with suppress(asyncio.CancelledError):
        await calling
    running = await approvals.get(approval_id)
    assert running.state == State.STATE_EXECUTING
    for call, allowed in (
        (approvals.execute(approval_id), "APPROVED"),
        (approvals.execute(approval_id, resume_indeterminate=True), "APPROVED, INDETERMINATE"),
        (approvals.approve(approval_id, actor="late"), "PENDING"),
        (approvals.reject(approval_id, actor="late"), "PENDING"),
        (approvals.cancel(approval_id), "PENDING, APPROVED, INDETERMINATE"),
    ):
        refusal = await refused(call)
        assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
        assert refusal.metadata == {"current_state": "EXECUTING", "allowed_states": allowed}
    assert await approvals.get(approval_id) == running
    held.release.set()
    assert (await approvals.until_delivered(approval_id)).state == State.STATE_SUCCEEDED
    assert len(hooked.requests_for(approval_id)) == 1


async def test_an_operation_does_not_expire_while_it_runs(hooked: Hooked, incidents: Incidents) -> None:
    approvals = hooked.approvals
    held = Held(status(200))
    hooked.receiver.answers.append(held)
    approval = await approvals.approved(await incidents.opened_id(), hooked.new_action(), auto_execute=True)
    await eventually(lambda: _is_called(hooked, approval.approval_id))
    await rows(
        hooked.service.database_url,
        "UPDATE approvals SET expire_time = now() WHERE approval_id = $1",
        approval.approval_id,
    )
    assert (await approvals.get(approval.approval_id)).state == State.STATE_EXECUTING
    held.release.set()
    assert (await approvals.until_delivered(approval.approval_id)).state == State.STATE_SUCCEEDED


async def _is_called(hooked: Hooked, approval_id: str) -> bool:
    return bool(hooked.requests_for(approval_id))
