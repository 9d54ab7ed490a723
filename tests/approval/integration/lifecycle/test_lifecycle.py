"""Cancel, expiry and Reconcile: how an approval ends without an execution, and how a forgotten one is found."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_service_pb2 as pb
from awoooi.incident.v1 import incident_pb2
from tests.approval.callers import Approvals, DeliveryState, Incidents, State, approvals_at, seconds
from tests.approval.schemas import approval_database, rows
from tests.eventually import eventually
from tests.rpc_errors import refused
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNKNOWN = "APR-20200101-00000000DEAD"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def restless_service(incident_service: RunningService) -> AsyncIterator[RunningService]:
    """An approval service whose background work comes round often."""
    variables = {
        "APPROVAL_INCIDENT_TARGET": incident_service.address,
        "APPROVAL_EXPIRE_EVERY": "50ms",
        "APPROVAL_RECONCILE_EVERY": "50ms",
    }
    async with approval_database() as url, healthy_service("approval", url, variables=variables) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def restless(restless_service: RunningService) -> AsyncIterator[Approvals]:
    async with approvals_at(restless_service.address) as found:
        yield found


@pytest.mark.parametrize("state", ["PENDING", "APPROVED"])
async def test_what_was_not_executed_can_be_cancelled(
    approvals: Approvals, incidents: Incidents, state: str
) -> None:
    incident_id = await incidents.opened()
    made = approvals.propose if state == "PENDING" else approvals.approved
    approval = await made(incident_id)
    cancelled = await approvals.cancel(approval.approval_id, reason="changed my mind")
    assert cancelled.state == State.STATE_CANCELLED
    assert cancelled.outcome_message == "changed my mind"
    assert cancelled.HasField("decide_time")
    assert cancelled.etag != approval.etag
    # Again by the same caller: the record; by another: refused.
    assert await approvals.cancel(approval.approval_id, reason="again") == cancelled
    refusal = await refused(approvals.cancel(approval.approval_id, actor="other"))
    assert refusal.metadata["current_state"] == "CANCELLED"
    refusal = await refused(approvals.execute(approval.approval_id))
    assert refusal.metadata == {"current_state": "CANCELLED", "allowed_states": "APPROVED"}
    assert (await incidents.get(incident_id)).state == incident_pb2.Incident.STATE_OPEN


async def test_what_was_executed_cannot_be_cancelled(approvals: Approvals, incidents: Incidents) -> None:
    approval = await approvals.executed(await incidents.opened())
    refusal = await refused(approvals.cancel(approval.approval_id))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.metadata["current_state"] == "SUCCEEDED"


async def test_cancelling_checks_id_and_etag(approvals: Approvals, incidents: Incidents) -> None:
    refusal = await refused(approvals.cancel(UNKNOWN))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "APPROVAL_NOT_FOUND")
    proposed = await approvals.propose(await incidents.opened())
    await approvals.approve(proposed.approval_id)
    refusal = await refused(approvals.cancel(proposed.approval_id, etag=proposed.etag))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "APPROVAL_CHANGED")


async def test_of_a_cancel_and_an_execute_that_race_the_first_counts(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    for _ in range(40):
        incident_id = await incidents.opened()
        approval_id = (await approvals.approved(incident_id)).approval_id
        calls: list[Any] = [approvals.cancel(approval_id), replica.execute(approval_id)]
        cancelled, executed = await asyncio.gather(*calls, return_exceptions=True)
        won = [not isinstance(outcome, BaseException) for outcome in (cancelled, executed)]
        assert sorted(won) == [False, True]
        state = (await approvals.get(approval_id)).state
        assert state == (State.STATE_CANCELLED if won[0] else State.STATE_SUCCEEDED)
        assert len((await approvals.deliveries(approval_id=approval_id)).deliveries) == won[1]


@pytest.mark.parametrize("state", ["PENDING", "APPROVED"])
async def test_what_is_not_executed_in_time_becomes_expired_and_resolves_nothing(
    restless: Approvals, incidents: Incidents, restless_service: RunningService, state: str
) -> None:
    incident_id = await incidents.opened()
    made = restless.propose if state == "PENDING" else restless.approved
    approval = await made(incident_id, ttl=seconds(3600))
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


async def test_what_was_executed_in_time_does_not_expire(
    restless: Approvals, incidents: Incidents, restless_service: RunningService
) -> None:
    executed = await restless.executed(await incidents.opened())
    bystander = await restless.propose(await incidents.opened())
    await rows(
        restless_service.database_url,
        "UPDATE approvals SET expire_time = now() WHERE approval_id = ANY($1)",
        [executed.approval_id, bystander.approval_id],
    )
    await eventually(
        lambda: restless.get(bystander.approval_id), lambda found: found.state == State.STATE_EXPIRED
    )
    assert (await restless.get(executed.approval_id)).state == State.STATE_SUCCEEDED


async def _forget(service: RunningService, approval_id: str) -> None:
    """Lose the intent, as a row removed by hand or a restore of an older backup does."""
    await rows(service.database_url, "DELETE FROM outbox WHERE dedup_key = $1", approval_id)
    await rows(
        service.database_url,
        "UPDATE approvals SET incident_resolve_time = NULL WHERE approval_id = $1",
        approval_id,
    )


async def test_a_forgotten_resolve_is_found_told_and_queued_once(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval = await approvals.executed(await incidents.opened())
    await approvals.until_delivered(approval.approval_id)
    await _forget(approval_service, approval.approval_id)
    told = await approvals.reconcile(validate_only=True)
    assert (told.queued_count, list(told.approval_ids)) == (1, [approval.approval_id])
    assert not (await approvals.deliveries(approval_id=approval.approval_id)).deliveries
    answers = await asyncio.gather(*(approvals.reconcile() for _ in range(5)))
    assert approval.approval_id in [each for answer in answers for each in answer.approval_ids]
    await approvals.until_delivered(approval.approval_id)
    assert (await approvals.delivery(approval.approval_id)).state == DeliveryState.STATE_DONE
    assert (await approvals.reconcile()).queued_count == 0


async def test_of_reconcilers_at_once_only_those_who_queued_count_it(
    approvals: Approvals, replica: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval = await approvals.executed(await incidents.opened())
    await approvals.until_delivered(approval.approval_id)
    await _forget(approval_service, approval.approval_id)
    answers = await asyncio.gather(*((approvals, replica)[turn % 2].reconcile() for turn in range(6)))
    assert sum(answer.queued_count for answer in answers) == 1
    await approvals.until_delivered(approval.approval_id)


async def test_an_approval_that_is_being_acknowledged_is_not_queued_again(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval = await approvals.executed(await incidents.opened())
    await approvals.until_delivered(approval.approval_id)
    await _forget(approval_service, approval.approval_id)
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


async def test_a_forgotten_resolve_heals_by_itself(
    restless: Approvals, incidents: Incidents, restless_service: RunningService
) -> None:
    incident_id = await incidents.opened()
    approval = await restless.executed(incident_id)
    await restless.until_delivered(approval.approval_id)
    await _forget(restless_service, approval.approval_id)
    delivered = await restless.until_delivered(approval.approval_id)
    assert delivered.state == State.STATE_SUCCEEDED
    assert (await incidents.get(incident_id)).resolution_number == 1


async def test_no_action_and_unparsable_leave_no_row_in_the_log_of_repairs(
    approvals: Approvals, incidents: Incidents
) -> None:
    for action in ("NO_ACTION", "whatever"):
        approval = await approvals.executed(await incidents.opened(), action)
        request = pb.ListExecutionsRequest(approval_id=approval.approval_id)
        assert not (await approvals.stub.ListExecutions(request, timeout=60)).executions


async def test_the_log_of_repairs_is_filtered_and_paged_newest_first(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval = await approvals.propose(await incidents.opened())
    for succeeded in (True, False, True):
        await rows(
            approval_service.database_url,
            """
            INSERT INTO auto_repair_executions
                (approval_id, incident_id, target, operation, succeeded, output, error, executor, start_time)
            VALUES ($1, $2, 'prod/deployment/api', $3, $4, 'rolled out', '', 'kubernetes', now())
            """,
            approval.approval_id,
            approval.incident_id,
            '{"kind": "RESTART", "resource_kind": "deployment", "name": "api", "namespace": "prod"}',
            succeeded,
        )
    first = await approvals.stub.ListExecutions(
        pb.ListExecutionsRequest(approval_id=approval.approval_id, page_size=2), timeout=60
    )
    assert [execution.succeeded for execution in first.executions] == [True, False]
    rest = await approvals.stub.ListExecutions(
        pb.ListExecutionsRequest(approval_id=approval.approval_id, page_token=first.next_page_token),
        timeout=60,
    )
    assert [execution.succeeded for execution in rest.executions] == [True]
    assert rest.next_page_token == ""
    failed = await approvals.stub.ListExecutions(
        pb.ListExecutionsRequest(incident_id=approval.incident_id, succeeded=False), timeout=60
    )
    (execution,) = failed.executions
    assert execution.operation.name == "api"
    assert (execution.executor, execution.output) == ("kubernetes", "rolled out")
