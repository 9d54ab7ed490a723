"""Execute: the outcome table, what is refused, and what a dry run leaves alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc
import pytest

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.approval.callers import (
    NO_ACTION,
    RESTART,
    UNPARSABLE,
    Approvals,
    Incidents,
    State,
)
from tests.approval.schemas import contents, rows
from tests.eventually import eventually
from tests.rpc_errors import refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNKNOWN = "APR-20200101-00000000DEAD"
RESOLVED = incident_pb2.Incident.STATE_RESOLVED
REAL = {
    "restart": RESTART,
    "scale": "SCALE deployment/api --replicas=3 -n prod",
    "delete": "DELETE pod/x -n prod",
    "rollback": "ROLLBACK deployment/api -n prod",
    "http": "HTTP POST hook-name",
}


async def test_a_no_action_succeeds_resolves_its_incident_once_and_is_no_repair(
    approvals: Approvals,
    incidents: Incidents,
    approval_service: RunningService,
    incident_service: RunningService,
) -> None:
    incident_id = await incidents.opened()
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


async def test_executing_again_is_the_stored_outcome_and_happens_to_nobody(
    approvals: Approvals,
    incidents: Incidents,
    approval_service: RunningService,
    incident_service: RunningService,
) -> None:
    incident_id = await incidents.opened()
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


async def test_an_incident_that_somebody_resolved_first_stays_as_it_was(
    approvals: Approvals,
    incidents: Incidents,
    approval_service: RunningService,
    incident_service: RunningService,
) -> None:
    incident_id = await incidents.opened()
    approval = await approvals.approved(incident_id)
    by_hand = (await incidents.resolve(incident_id)).incident
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
    incident_id = await incidents.opened()
    ids = [(await approvals.approved(incident_id)).approval_id for _ in range(2)]
    await asyncio.gather(*(approvals.execute(approval_id) for approval_id in ids))
    for approval_id in ids:
        await approvals.until_delivered(approval_id)
    assert (await incidents.get(incident_id)).resolution_number == 1
    assert len(await incidents.events(incident_id, incident_pb2.IncidentEvent.TYPE_RESOLVED)) == 1


async def test_an_action_that_cannot_be_parsed_fails_and_resolves_nothing(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    incident_id = await incidents.opened()
    approval = await approvals.approved(incident_id, UNPARSABLE)
    answer = await approvals.execute(approval.approval_id)
    assert answer.approval.state == State.STATE_FAILED
    assert answer.approval.outcome_message == f"cannot parse action: {approval.parse_error}"
    assert not answer.already_executed
    again = await approvals.execute(approval.approval_id)
    assert again.already_executed
    assert again.approval == answer.approval

    # The intent would have been committed with the outcome.
    assert not (await approvals.deliveries(approval_id=approval.approval_id)).deliveries
    assert not await _repairs(approval_service, approval.approval_id)
    incident = await incidents.get(incident_id)
    assert (incident.state, incident.resolution_number) == (incident_pb2.Incident.STATE_OPEN, 0)
    await approval_service.logged(
        "background_execution_failed", approval_id=approval.approval_id, incident_id=incident_id
    )


@pytest.mark.parametrize("action", REAL.values(), ids=REAL)
async def test_an_operation_without_an_executor_is_refused_and_stays_approved(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, action: str
) -> None:
    approval = await approvals.approved(await incidents.opened(), action)
    refusal = await refused(approvals.execute(approval.approval_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXECUTOR_MISSING")
    assert await approvals.get(approval.approval_id) == approval
    assert approval.state == State.STATE_APPROVED
    assert not await _repairs(approval_service, approval.approval_id)


async def test_an_unknown_approval_is_not_found(approvals: Approvals) -> None:
    for fields in ({}, {"validate_only": True}):
        refusal = await refused(approvals.execute(UNKNOWN, **fields))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "APPROVAL_NOT_FOUND")
        assert refusal.resource == ("awoooi.approval.v1.Approval", UNKNOWN)


NOT_APPROVED = {"pending": "PENDING", "rejected": "REJECTED", "expired": "EXPIRED"}


async def _not_approved(
    approvals: Approvals, incidents: Incidents, service: RunningService, how: str
) -> approval_pb2.Approval:
    approval = await approvals.propose(await incidents.opened())
    if how == "rejected":
        return await approvals.reject(approval.approval_id)
    if how == "expired":
        await approvals.approve(approval.approval_id)
        await rows(
            service.database_url,
            "UPDATE approvals SET expire_time = now() WHERE approval_id = $1",
            approval.approval_id,
        )
        return await approvals.get(approval.approval_id)
    return approval


@pytest.mark.parametrize(("how", "state"), NOT_APPROVED.items(), ids=NOT_APPROVED)
async def test_what_is_not_approved_is_not_executed(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, how: str, state: str
) -> None:
    approval = await _not_approved(approvals, incidents, approval_service, how)
    refusal = await refused(approvals.execute(approval.approval_id))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "APPROVAL_STATE_NOT_ALLOWED",
    )
    assert refusal.metadata == {"current_state": state, "allowed_states": "APPROVED"}
    assert refusal.preconditions == (f"is {state}, must be one of: APPROVED",)
    assert await approvals.get(approval.approval_id) == approval
    assert not (await approvals.deliveries(approval_id=approval.approval_id)).deliveries


CHANGES = {
    "action": "UPDATE approvals SET action = 'NO_ACTION: something else' WHERE approval_id = $1",
    "hash": "UPDATE approvals SET action_hash = repeat('0', 64) WHERE approval_id = $1",
    "now_unparsable": "UPDATE approvals SET action = 'observe' WHERE approval_id = $1",
    "now_another_target": "UPDATE approvals SET action = 'DELETE pod/x -n prod' WHERE approval_id = $1",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_what_was_changed_since_it_was_approved_is_not_executed(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, change: str
) -> None:
    approval_id = (await approvals.approved(await incidents.opened())).approval_id
    await rows(approval_service.database_url, change, approval_id)
    refusal = await refused(approvals.execute(approval_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ACTION_CHANGED")
    assert (await approvals.get(approval_id)).state == State.STATE_APPROVED
    plan = (await approvals.execute(approval_id, validate_only=True)).plan
    assert [check.name for check in plan.checks if not check.passed] == ["action_unchanged"]


async def test_the_stored_target_is_bound_to_what_was_approved(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval_id = (await approvals.approved(await incidents.opened(), RESTART)).approval_id
    # What would be run is the stored operation: made a NO_ACTION behind the approvers' back, it must not run either.
    await rows(
        approval_service.database_url,
        "UPDATE approvals SET operation_kind = 'NO_ACTION' WHERE approval_id = $1",
        approval_id,
    )
    refusal = await refused(approvals.execute(approval_id))
    assert refusal.reason == "ACTION_CHANGED"


async def test_a_stale_etag_is_refused_and_the_current_one_taken(
    approvals: Approvals, incidents: Incidents
) -> None:
    proposed = await approvals.propose(await incidents.opened())
    approved = await approvals.approve(proposed.approval_id)
    refusal = await refused(approvals.execute(proposed.approval_id, etag=proposed.etag))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "APPROVAL_CHANGED")
    answer = await approvals.execute(proposed.approval_id, etag=approved.etag)
    assert answer.approval.state == State.STATE_SUCCEEDED


# What a plan finds: the checks that do not pass.
PLANS: dict[str, tuple[str, str, list[str]]] = {
    "approved": (NO_ACTION, "approved", []),
    "pending": (NO_ACTION, "pending", ["approved"]),
    "rejected": (NO_ACTION, "rejected", ["approved"]),
    "expired": (NO_ACTION, "expired", ["not_expired"]),
    "unparsable": (UNPARSABLE, "approved", ["action_parsed"]),
    "without_executor": (RESTART, "approved", ["executor_present"]),
    "executed": (NO_ACTION, "executed", ["approved"]),
}


@pytest.mark.parametrize("case", PLANS.values(), ids=PLANS)
async def test_a_dry_run_shows_operation_and_checks_and_writes_nothing(
    approvals: Approvals,
    incidents: Incidents,
    approval_service: RunningService,
    case: tuple[str, str, list[str]],
) -> None:
    action, how, failing = case
    if how == "approved":
        approval = await approvals.approved(await incidents.opened(), action)
    elif how == "executed":
        approval = await approvals.executed(await incidents.opened(), action)
        approval = await approvals.until_delivered(approval.approval_id)
    else:
        approval = await _not_approved(approvals, incidents, approval_service, how)
    before = await contents(approval_service.database_url)
    answer = await approvals.execute(approval.approval_id, validate_only=True)
    assert await contents(approval_service.database_url) == before
    assert answer.approval == approval
    assert not answer.already_executed
    assert answer.plan.HasField("operation") is (action != UNPARSABLE)
    assert answer.plan.operation == approval.operation
    checks = ["approved", "not_expired", "action_parsed", "action_unchanged"]
    # Only an operation needs an executor.
    checks += ["executor_present"] if action == RESTART else []
    assert [check.name for check in answer.plan.checks] == checks
    assert [check.name for check in answer.plan.checks if not check.passed] == failing


async def test_an_answer_of_an_execution_has_no_plan(approvals: Approvals, incidents: Incidents) -> None:
    approval = await approvals.approved(await incidents.opened())
    assert not (await approvals.execute(approval.approval_id)).HasField("plan")


async def test_a_caller_that_gives_up_stops_no_execution(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    incident_id = await incidents.opened()
    approval_id = (await approvals.approved(incident_id)).approval_id
    async with _held(approval_service, approval_id):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await approvals.execute(approval_id, seconds=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    executed = await eventually(
        lambda: approvals.get(approval_id), lambda approval: approval.state == State.STATE_SUCCEEDED
    )
    retried = await approvals.execute(approval_id)
    assert retried.already_executed
    assert retried.approval.finish_time == executed.finish_time
    await approvals.until_delivered(approval_id)


@asynccontextmanager
async def _held(service: RunningService, approval_id: str) -> AsyncIterator[None]:
    """Keep an approval locked: whoever wants to change it waits."""
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
