"""Reconcile: the resolve of an executed, unacknowledged approval without an open delivery is queued again."""

import asyncio

import asyncpg
import pytest

from awoooi.incident.v1 import incident_pb2
from tests.approval.hooks import Hooked
from tests.approval.repairs import logged
from tests.approval.schemas import past_triggers, rows
from tests.callers import Approvals, DeliveryState, Incidents, State
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _lose(service: RunningService, approval_id: str) -> None:
    """Lose the delivery and its acknowledgement, as a restore of an older backup does."""
    await rows(service.database_url, "DELETE FROM outbox WHERE dedup_key = $1", approval_id)
    await rows(
        service.database_url,
        "UPDATE approvals SET incident_resolve_time = NULL WHERE approval_id = $1",
        approval_id,
    )


async def _set_back(service: RunningService, incident_id: str) -> None:
    """Undo an incident's resolution, as a restore of an older backup does."""
    for statement in (
        "DELETE FROM incident_events WHERE incident_id = $1 AND type NOT IN ('OPENED', 'PROPOSED', 'APPROVED')",
        "DELETE FROM outbox WHERE payload ->> 'incident_id' = $1",
        "DELETE FROM postmortems WHERE incident_id = $1",
        "DELETE FROM dispositions WHERE incident_id = $1",
        "DELETE FROM knowledge_uses WHERE incident_id = $1",
        (
            "UPDATE incidents SET state = 'OPEN', resolve_time = NULL, resolution_type = NULL, resolution_note = '', "
            "resolved_by = '', resolution_number = 0 WHERE incident_id = $1"
        ),
    ):
        await past_triggers(service.database_url, statement, incident_id)


async def test_a_missing_resolve_is_found_and_queued_once(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval = await approvals.executed(await incidents.opened_id())
    await approvals.until_delivered(approval.approval_id)
    await _lose(approval_service, approval.approval_id)
    missing = await approvals.reconcile(validate_only=True)
    assert (missing.queued_count, list(missing.approval_ids)) == (1, [approval.approval_id])
    assert not (await approvals.list_deliveries(approval_id=approval.approval_id).page()).deliveries
    answers = await asyncio.gather(*(approvals.reconcile() for _ in range(5)))
    assert approval.approval_id in [each for answer in answers for each in answer.approval_ids]
    await approvals.until_delivered(approval.approval_id)
    assert (await approvals.delivery(approval.approval_id)).state == DeliveryState.STATE_DONE
    assert (await approvals.reconcile()).queued_count == 0


async def test_concurrent_reconciliations_count_each_approval_once(
    approvals: Approvals, replica: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval = await approvals.executed(await incidents.opened_id())
    await approvals.until_delivered(approval.approval_id)
    await _lose(approval_service, approval.approval_id)
    answers = await asyncio.gather(*((approvals, replica)[turn % 2].reconcile() for turn in range(6)))
    assert sum(answer.queued_count for answer in answers) == 1
    await approvals.until_delivered(approval.approval_id)


async def test_an_approval_that_is_being_acknowledged_is_not_queued_again(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval = await approvals.executed(await incidents.opened_id())
    await approvals.until_delivered(approval.approval_id)
    await _lose(approval_service, approval.approval_id)
    connection = await asyncpg.connect(approval_service.database_url)
    try:
        async with connection.transaction():
            # As the transaction that marks it acknowledged holds it.
            await connection.execute(
                "SELECT FROM approvals WHERE approval_id = $1 FOR NO KEY UPDATE", approval.approval_id
            )
            answer = await approvals.reconcile()
            assert approval.approval_id not in answer.approval_ids
    finally:
        await connection.close()
    assert approval.approval_id in (await approvals.reconcile()).approval_ids
    await approvals.until_delivered(approval.approval_id)


async def test_a_missing_resolve_is_queued_by_the_periodic_reconciliation(
    restless: Approvals, incidents: Incidents, restless_service: RunningService
) -> None:
    incident_id = await incidents.opened_id()
    approval = await restless.executed(incident_id)
    await restless.until_delivered(approval.approval_id)
    await _lose(restless_service, approval.approval_id)
    delivered = await restless.until_delivered(approval.approval_id)
    assert delivered.state == State.STATE_SUCCEEDED
    assert (await incidents.get(incident_id)).resolution_number == 1


async def test_a_missing_resolve_of_an_operation_is_queued_as_auto_repaired_and_the_operation_is_not_run_again(
    hooked: Hooked, incidents: Incidents, incident_service: RunningService
) -> None:
    approvals = hooked.approvals
    incident_id = await incidents.opened_id()
    approval_id = (await approvals.executed(incident_id, hooked.new_action())).approval_id
    await approvals.until_delivered(approval_id)
    # Both databases as a restore from older backups leaves them: executed, and neither queued nor acknowledged.
    await _set_back(incident_service, incident_id)
    await _lose(hooked.service, approval_id)
    assert list((await approvals.reconcile()).approval_ids) == [approval_id]
    await approvals.until_delivered(approval_id)
    incident = await incidents.get(incident_id)
    assert (incident.resolution_type, incident.resolution_number) == (
        incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED,
        1,
    )
    assert len(hooked.requests_for(approval_id)) == 1
    assert len(await logged(approvals, approval_id)) == 1
