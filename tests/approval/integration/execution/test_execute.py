"""Execute: the outcome of what needs no executor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from awoooi.client import DeadlineExceededError
from awoooi.incident.v1 import incident_pb2
from tests.approval.schemas import contents, rows
from tests.callers import (
    NO_ACTION,
    UNPARSABLE,
    Approvals,
    Incidents,
    State,
)
from tests.eventually import eventually
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

RESOLVED = incident_pb2.Incident.STATE_RESOLVED


async def test_a_no_action_succeeds_resolves_its_incident_once_and_is_no_repair(
    approvals: Approvals,
    incidents: Incidents,
    approval_service: RunningService,
    incident_service: RunningService,
) -> None:
    incident_id = await incidents.opened_id()
    approval = await approvals.approved(incident_id)
    answer = await approvals.execute(approval.approval_id)
    assert not answer.already_executed
    assert answer.approval.state == State.STATE_SUCCEEDED
    assert answer.approval.outcome_message == "observed only"
    assert answer.approval.HasField("execute_time")
    assert answer.approval.HasField("finish_time")

    delivered = await approvals.until_delivered(approval.approval_id)
    assert delivered.state == State.STATE_SUCCEEDED
    incident = await incidents.get(incident_id)
    assert incident.state == RESOLVED
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_NO_ACTION
    assert incident.resolution_number == 1
    assert incident.resolved_by == "service:approval"
    (event,) = await incidents.events(incident_id, incident_pb2.IncidentEvent.TYPE_RESOLVED)
    assert event.actor == "service:approval"
    assert event.attributes["approval_id"] == approval.approval_id
    assert event.attributes["action"] == NO_ACTION
    assert not await _repairs(approval_service, approval.approval_id)

    await approval_service.logged(
        "background_execution_noop",
        approval_id=approval.approval_id,
        incident_id=incident_id,
        path="no_action",
    )
    await approval_service.logged(
        "incident_resolved_after_no_action_execution",
        approval_id=approval.approval_id,
        incident_id=incident_id,
        path="no_action",
        already_resolved=False,
    )
    resolves = incident_service.events("incident_resolve_skipped_already_resolved")
    assert not [line for line in resolves if line["incident_id"] == incident_id]


async def test_execute_is_idempotent_and_writes_nothing_the_second_time(
    approvals: Approvals,
    incidents: Incidents,
    approval_service: RunningService,
    incident_service: RunningService,
) -> None:
    incident_id = await incidents.opened_id()
    approval = await approvals.executed(incident_id)
    delivered = await approvals.until_delivered(approval.approval_id)
    before = await contents(approval_service.database_url), await contents(incident_service.database_url)
    for etag in ("", "stale", delivered.etag):
        again = await approvals.execute(approval.approval_id, etag=etag)
        assert again.already_executed
        assert again.approval == delivered
    assert before == (
        await contents(approval_service.database_url),
        await contents(incident_service.database_url),
    )


async def test_resolving_is_idempotent_for_an_incident_that_was_resolved_by_hand(
    approvals: Approvals,
    incidents: Incidents,
    approval_service: RunningService,
    incident_service: RunningService,
) -> None:
    incident_id = await incidents.opened_id()
    approval = await approvals.approved(incident_id)
    by_hand = (await incidents.resolve(incident_id, resolution_type="HUMAN")).incident
    await approvals.execute(approval.approval_id)
    delivered = await approvals.until_delivered(approval.approval_id)
    assert delivered.state == State.STATE_SUCCEEDED
    assert await incidents.get(incident_id) == by_hand
    await approval_service.logged(
        "incident_resolved_after_no_action_execution",
        approval_id=approval.approval_id,
        already_resolved=True,
    )
    await incident_service.logged(
        "incident_resolve_skipped_already_resolved", incident_id=incident_id, actor="service:approval"
    )


async def test_two_approvals_of_one_incident_resolve_it_once(
    approvals: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    ids = [(await approvals.approved(incident_id)).approval_id for _ in range(2)]
    await asyncio.gather(*(approvals.execute(approval_id) for approval_id in ids))
    for approval_id in ids:
        await approvals.until_delivered(approval_id)
    assert (await incidents.get(incident_id)).resolution_number == 1
    assert len(await incidents.events(incident_id, incident_pb2.IncidentEvent.TYPE_RESOLVED)) == 1


async def test_an_action_that_cannot_be_parsed_fails_and_resolves_nothing(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    incident_id = await incidents.opened_id()
    approval = await approvals.approved(incident_id, UNPARSABLE)
    answer = await approvals.execute(approval.approval_id)
    assert answer.approval.state == State.STATE_FAILED
    assert answer.approval.outcome_message == f"cannot parse action: {approval.parse_error}"
    assert not answer.already_executed
    again = await approvals.execute(approval.approval_id)
    assert again.already_executed
    assert again.approval == answer.approval

    # The intent would have been committed with the outcome.
    assert not (await approvals.list_deliveries(approval_id=approval.approval_id).page()).deliveries
    assert not await _repairs(approval_service, approval.approval_id)
    incident = await incidents.get(incident_id)
    assert (incident.state, incident.resolution_number) == (incident_pb2.Incident.STATE_OPEN, 0)
    await approval_service.logged(
        "background_execution_failed", approval_id=approval.approval_id, incident_id=incident_id
    )


async def test_a_deadline_of_the_caller_does_not_stop_an_execution(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    incident_id = await incidents.opened_id()
    approval_id = (await approvals.approved(incident_id)).approval_id
    async with _held(approval_service, approval_id):
        with pytest.raises(DeadlineExceededError):
            await approvals.execute(approval_id, timeout=0.3)
    executed = await eventually(
        lambda: approvals.get(approval_id), lambda approval: approval.state == State.STATE_SUCCEEDED
    )
    retried = await approvals.execute(approval_id)
    assert retried.already_executed
    assert retried.approval.finish_time == executed.finish_time
    await approvals.until_delivered(approval_id)


@asynccontextmanager
async def _held(service: RunningService, approval_id: str) -> AsyncIterator[None]:
    """Keep an approval locked."""
    connection = await asyncpg.connect(service.database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM approvals WHERE approval_id = $1 FOR UPDATE", approval_id)
            yield
    finally:
        await connection.close()


async def _repairs(service: RunningService, approval_id: str) -> Any:
    return await rows(
        service.database_url, "SELECT * FROM auto_repair_executions WHERE approval_id = $1", approval_id
    )
