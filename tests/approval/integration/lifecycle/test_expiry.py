"""An approval that is not executed before its expiry expires."""

from datetime import timedelta

import pytest

from awoooi.incident.v1 import incident_pb2
from tests.approval.schemas import rows
from tests.callers import Approvals, Incidents, State
from tests.eventually import eventually
from tests.rpc_errors import refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("state", ["PENDING", "APPROVED"])
async def test_an_approval_that_is_not_executed_before_its_expiry_expires_and_resolves_nothing(
    restless: Approvals, incidents: Incidents, restless_service: RunningService, state: str
) -> None:
    incident_id = await incidents.opened_id()
    made = restless.proposed if state == "PENDING" else restless.approved
    approval = await made(incident_id, ttl=timedelta(seconds=3600))
    await rows(
        restless_service.database_url,
        "UPDATE approvals SET expire_time = now() WHERE approval_id = $1",
        approval.approval_id,
    )
    expired = await eventually(
        lambda: restless.get(approval.approval_id), lambda found: found.state == State.STATE_EXPIRED
    )
    assert expired.HasField("decide_time")
    assert expired.etag != approval.etag
    refusal = await refused(restless.execute(approval.approval_id))
    assert refusal.metadata == {"current_state": "EXPIRED", "allowed_states": "APPROVED"}
    assert (await incidents.get(incident_id)).state == incident_pb2.Incident.STATE_OPEN


async def test_an_approval_that_was_executed_before_its_expiry_does_not_expire(
    restless: Approvals, incidents: Incidents, restless_service: RunningService
) -> None:
    executed = await restless.executed(await incidents.opened_id())
    bystander = await restless.proposed(await incidents.opened_id())
    await rows(
        restless_service.database_url,
        "UPDATE approvals SET expire_time = now() WHERE approval_id = ANY($1)",
        [executed.approval_id, bystander.approval_id],
    )
    await eventually(
        lambda: restless.get(bystander.approval_id), lambda found: found.state == State.STATE_EXPIRED
    )
    assert (await restless.get(executed.approval_id)).state == State.STATE_SUCCEEDED
