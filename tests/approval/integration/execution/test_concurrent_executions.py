"""Concurrent executions, over two processes, are idempotent."""

import asyncio
from collections import Counter

import pytest

from tests.approval.integration.racing import repeat
from tests.approval.schemas import rows
from tests.callers import Approvals, Incidents, State
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_hundred_concurrent_executions_are_idempotent(
    approvals: Approvals,
    replica: Approvals,
    incidents: Incidents,
    approval_service: RunningService,
) -> None:
    approval_id = (await approvals.approved(await incidents.opened_id())).approval_id
    before = await _noops(approvals)
    answers = await asyncio.gather(
        *((approvals, replica)[turn % 2].execute(approval_id) for turn in range(100))
    )
    assert Counter(answer.already_executed for answer in answers) == {False: 1, True: 99}
    assert {answer.approval.state for answer in answers} == {State.STATE_SUCCEEDED}
    assert len({answer.approval.finish_time.ToNanoseconds() for answer in answers}) == 1
    assert await _noops(approvals) == before + 1
    jobs = await rows(
        approval_service.database_url, "SELECT topic FROM outbox WHERE dedup_key = $1", approval_id
    )
    assert jobs == [("incident.resolve",)]


async def test_executions_concurrent_with_auto_execute_are_idempotent(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    before = await _noops(approvals)

    async def one_round() -> None:
        approval_id = (await approvals.approved(await incidents.opened_id(), auto_execute=True)).approval_id
        answers = await asyncio.gather(approvals.execute(approval_id), replica.execute(approval_id))
        assert sum(not answer.already_executed for answer in answers) <= 1
        await approvals.until_delivered(approval_id)

    await repeat(one_round, 60)
    assert await _noops(approvals) == before + 60


async def test_executions_and_concurrent_acknowledgements_do_not_disturb_each_other(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    ids = [(await approvals.approved(await incidents.opened_id())).approval_id for _ in range(60)]
    for _ in range(3):
        answers = await asyncio.gather(
            *(service.execute(approval_id) for approval_id in ids for service in (approvals, replica))
        )
        assert {answer.approval.state for answer in answers} == {State.STATE_SUCCEEDED}
    for approval_id in ids:
        await approvals.until_delivered(approval_id)


async def _noops(approvals: Approvals) -> int:
    return (await approvals.stats()).executions.noop_executions_total
