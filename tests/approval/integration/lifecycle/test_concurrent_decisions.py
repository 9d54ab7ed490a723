"""Concurrent decisions, over two processes: one wins, and the others get the current state."""

import asyncio
from collections import Counter

import grpc
import pytest

from awoooi.approval.v1 import approval_pb2
from tests.approval.integration.racing import race, repeat
from tests.callers import Approvals, Incidents, State
from tests.rpc_errors import Refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUNDS = 200


async def test_of_a_concurrent_approval_and_rejection_one_decides_and_the_other_gets_the_current_state(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()

    async def one_round() -> str:
        approval_id = (await approvals.proposed(incident_id)).approval_id
        yes, no = await race(
            approvals.approve(approval_id, actor="alice"),
            replica.reject(approval_id, actor="bob"),
        )
        final = await approvals.get(approval_id)
        (decision,) = final.decisions
        won, lost = (yes, no) if decision.actor == "alice" else (no, yes)
        assert isinstance(won, approval_pb2.Approval)
        assert won.state == final.state
        assert isinstance(lost, Refused)
        assert lost.code is grpc.StatusCode.FAILED_PRECONDITION
        name = State.Name(final.state).removeprefix("STATE_")
        assert lost.metadata == {"current_state": name, "allowed_states": "PENDING"}
        assert name == ("APPROVED" if decision.actor == "alice" else "REJECTED")
        return name

    assert set(await repeat(one_round, ROUNDS)) <= {"APPROVED", "REJECTED"}


async def test_of_two_concurrent_approvals_one_approves_and_the_other_gets_the_current_state(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()

    async def one_round() -> None:
        approval_id = (await approvals.proposed(incident_id)).approval_id
        outcomes = await race(
            approvals.approve(approval_id, actor="alice"),
            replica.approve(approval_id, actor="bob"),
        )
        (refusal,) = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        assert refusal.metadata == {"current_state": "APPROVED", "allowed_states": "PENDING"}
        assert len((await approvals.get(approval_id)).decisions) == 1

    await repeat(one_round, ROUNDS)


async def test_concurrent_approvals_of_one_actor_are_idempotent(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()

    async def one_round() -> None:
        approval_id = (await approvals.proposed(incident_id, required_approvals=2)).approval_id
        one, other = await asyncio.gather(approvals.approve(approval_id), replica.approve(approval_id))
        assert one == other
        assert one.state == State.STATE_PENDING
        assert len(one.decisions) == 1

    await repeat(one_round, 100)


async def test_three_concurrent_approvals_complete_a_quorum_of_two_once(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()

    async def one_round() -> None:
        approval_id = (await approvals.proposed(incident_id, required_approvals=2)).approval_id
        outcomes = await race(
            approvals.approve(approval_id, actor="alice"),
            replica.approve(approval_id, actor="bob"),
            approvals.approve(approval_id, actor="carol"),
        )
        states = Counter(
            outcome.state if isinstance(outcome, approval_pb2.Approval) else outcome.metadata["current_state"]
            for outcome in outcomes
        )
        assert states == {State.STATE_PENDING: 1, State.STATE_APPROVED: 1, "APPROVED": 1}
        assert len((await approvals.get(approval_id)).decisions) == 2

    await repeat(one_round, 100)
