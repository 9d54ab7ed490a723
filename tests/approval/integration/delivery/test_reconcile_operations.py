"""Reconciliation of an operation: its resolve is queued again, the operation is not run again."""

import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as incident_service_pb
from tests.approval.callers import Incidents
from tests.approval.hooks import Hooked
from tests.approval.repairs import logged
from tests.approval.schemas import rows
from tests.services import PATIENCE_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_forgotten_resolve_of_an_operation_is_told_as_a_repair_and_repeats_nothing(
    hooked: Hooked, incidents: Incidents
) -> None:
    approvals, url = hooked.approvals, hooked.service.database_url
    incident_id = await incidents.opened()
    approval_id = (await approvals.executed(incident_id, hooked.new_action())).approval_id
    await approvals.until_delivered(approval_id)
    # Both databases as a restore from older backups leaves them: executed, and nobody knows of telling it.
    await incidents.stub.Reopen(
        incident_service_pb.ReopenRequest(incident_id=incident_id, reason="restored"),
        timeout=PATIENCE_SECONDS,
    )
    await rows(url, "DELETE FROM outbox WHERE topic = 'incident.resolve' AND dedup_key = $1", approval_id)
    await rows(url, "UPDATE approvals SET incident_resolve_time = NULL WHERE approval_id = $1", approval_id)
    assert list((await approvals.reconcile()).approval_ids) == [approval_id]
    await approvals.until_delivered(approval_id)
    incident = await incidents.get(incident_id)
    assert (incident.resolution_type, incident.resolution_number) == (
        incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED,
        2,
    )
    assert len(hooked.requests_for(approval_id)) == 1
    assert len(await logged(approvals, approval_id)) == 1
