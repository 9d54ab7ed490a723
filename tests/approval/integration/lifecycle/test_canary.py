"""The approval of a canary: no channel is notified of it, no counter has it, and it can be removed."""

import grpc
import pytest

from awoooi.client import CallError
from tests.approval.schemas import rows
from tests.callers import RESTART, Approvals, Incidents
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")
CANARY = {"flywheel-canary": "true"}


async def test_a_canary_is_executed_and_removed_and_no_counter_has_it(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    url = approval_service.database_url
    assert url is not None
    named = "SELECT name, label, sum(value)::int FROM counters GROUP BY 1, 2 ORDER BY 1, 2"
    incident = await incidents.opened(labels=CANARY)
    canary = await approvals.proposed(incident.incident_id)
    assert canary.canary
    counted = await rows(url, named)
    await approvals.approve(canary.approval_id)
    await approvals.execute(canary.approval_id)
    await approvals.until_delivered(canary.approval_id)
    assert await approvals.remove_canary(canary.approval_id) is True
    # Idempotent.
    assert await approvals.remove_canary(canary.approval_id) is False
    left = {(name, label): value for name, label, value in await rows(url, named)}
    expected = {(name, label): value for name, label, value in counted}
    expected["approvals", "PENDING"] -= 1
    assert {key: value for key, value in left.items() if value} == {
        key: value for key, value in expected.items() if value
    }
    with pytest.raises(CallError) as raised:
        await approvals.get(canary.approval_id)
    assert raised.value.code is grpc.StatusCode.NOT_FOUND
    assert await rows(url, "SELECT FROM approval_changes WHERE approval_id = $1", canary.approval_id) == []


async def test_a_canary_that_has_not_ended_stays(approvals: Approvals, incidents: Incidents) -> None:
    incident = await incidents.opened(labels=CANARY)
    canary = await approvals.proposed(incident.incident_id)
    with pytest.raises(CallError) as raised:
        await approvals.remove_canary(canary.approval_id)
    assert raised.value.reason == "APPROVAL_STATE_NOT_ALLOWED"
    await approvals.cancel(canary.approval_id)
    assert await approvals.remove_canary(canary.approval_id)


async def test_an_operation_is_no_canary_and_no_other_approval_is_removed(
    approvals: Approvals, incidents: Incidents
) -> None:
    incident = await incidents.opened(labels=CANARY)
    # An operation changes something outside, for a canary incident too: people are notified.
    operation = await approvals.proposed(incident.incident_id, RESTART)
    real = await approvals.proposed(await incidents.opened_id())
    for approval in (operation, real):
        assert not approval.canary
        await approvals.cancel(approval.approval_id)
        with pytest.raises(CallError) as raised:
            await approvals.remove_canary(approval.approval_id)
        assert raised.value.reason == "NOT_A_CANARY"
