"""One person in every spelling: on a server without authentication, and in rows of versions that stored names as written."""

import asyncpg
import grpc
import pytest

from tests.callers import Approvals, Incidents, State
from tests.rpc_errors import refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def execute(service: RunningService, statement: str, *arguments: object) -> None:
    """Run a statement in the service's database."""
    connection = await asyncpg.connect(service.database_url)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


@pytest.mark.parametrize("approver", ["alice", "Alice", "ALICE", " alice "])
async def test_no_spelling_of_a_claimed_name_approves_its_own_proposal(
    approvals: Approvals, incidents: Incidents, approver: str
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id(), actor="Alice")
    assert proposed.proposed_by == "alice"
    refusal = await refused(approvals.approve(proposed.approval_id, actor=approver))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "OWN_PROPOSAL")


@pytest.mark.parametrize("actor", ["policy:restarts", "Policy:Restarts", "system:clock"])
async def test_a_caller_cannot_claim_the_name_of_a_policy(
    approvals: Approvals, incidents: Incidents, actor: str
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id())
    refusal = await refused(approvals.approve(proposed.approval_id, actor=actor))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("metadata awoooi-actor",))


async def test_a_proposer_of_an_earlier_version_does_not_approve_now(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id())
    await execute(
        approval_service,
        "UPDATE approvals SET proposed_by = 'Alice' WHERE approval_id = $1",
        proposed.approval_id,
    )
    refusal = await refused(approvals.approve(proposed.approval_id, actor="alice"))
    assert refusal.reason == "OWN_PROPOSAL"


async def test_approvers_of_an_earlier_version_count_once_in_every_spelling(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id(), actor="alice", required_approvals=3)
    for actor in ("Bob", "BOB", "Alice"):
        await execute(
            approval_service,
            "INSERT INTO approval_decisions (approval_id, actor, kind, reason, policy_rule) VALUES ($1, $2, 'APPROVE', '', '')",
            proposed.approval_id,
            actor,
        )
    # Bob once, and Alice's own not at all.
    await approvals.approve(proposed.approval_id, actor="bob")
    approval = await approvals.approve(proposed.approval_id, actor="carol")
    assert approval.state == State.STATE_PENDING
    approval = await approvals.approve(proposed.approval_id, actor="dora")
    assert approval.state == State.STATE_APPROVED


async def test_a_request_id_of_an_earlier_version_is_known_in_every_spelling(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    incident_id = await incidents.opened_id()
    first = await approvals.proposed(incident_id, actor="alice", request_id="once")
    await execute(
        approval_service,
        "UPDATE approvals SET proposed_by = 'Alice' WHERE approval_id = $1",
        first.approval_id,
    )
    again = await approvals.proposed(incident_id, actor="ALICE", request_id="once")
    assert again.approval_id == first.approval_id
