"""Decisions and executions that race, over two processes: one winner, and everybody is told the truth."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest

from awoooi.approval.v1 import approval_pb2
from tests.approval.callers import Approvals, Incidents, State
from tests.approval.schemas import rows
from tests.rpc_errors import read_refusal
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUNDS = 200
# Rounds that run side by side; more would wait for the database, not for each other.
_TOGETHER = 20


async def _outcomes(calls: Sequence[Awaitable[Any]]) -> list[Any]:
    """What each call gave: its answer, or how it was refused."""
    found: list[Any] = []
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, grpc.aio.AioRpcError):
            found.append(read_refusal(outcome))
        else:
            assert not isinstance(outcome, BaseException), outcome
            found.append(outcome)
    return found


async def _rounds(one_round: Any, rounds: int = ROUNDS) -> list[Any]:
    found: list[Any] = []
    for _ in range(rounds // _TOGETHER):
        found += await asyncio.gather(*(one_round() for _ in range(_TOGETHER)))
    return found


async def test_of_a_yes_and_a_no_the_first_counts_and_the_other_is_told(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened()

    async def one_round() -> str:
        approval_id = (await approvals.propose(incident_id)).approval_id
        yes, no = await _outcomes(
            [
                approvals.approve(approval_id, actor="alice"),
                replica.reject(approval_id, actor="bob"),
            ]
        )
        final = await approvals.get(approval_id)
        (decision,) = final.decisions
        won, lost = (yes, no) if decision.actor == "alice" else (no, yes)
        assert won.state == final.state
        assert lost.code is grpc.StatusCode.FAILED_PRECONDITION
        name = State.Name(final.state).removeprefix("STATE_")
        assert lost.metadata == {"current_state": name, "allowed_states": "PENDING"}
        assert name == ("APPROVED" if decision.actor == "alice" else "REJECTED")
        return name

    assert set(await _rounds(one_round)) <= {"APPROVED", "REJECTED"}


async def test_of_two_yes_that_race_one_approves_and_the_other_is_told(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened()

    async def one_round() -> None:
        approval_id = (await approvals.propose(incident_id)).approval_id
        outcomes = await _outcomes(
            [
                approvals.approve(approval_id, actor="alice"),
                replica.approve(approval_id, actor="bob"),
            ]
        )
        refusals = [outcome for outcome in outcomes if not isinstance(outcome, approval_pb2.Approval)]
        (refusal,) = refusals
        assert refusal.metadata == {"current_state": "APPROVED", "allowed_states": "PENDING"}
        assert len((await approvals.get(approval_id)).decisions) == 1

    await _rounds(one_round)


async def test_two_yes_of_one_approver_that_race_count_once(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened()

    async def one_round() -> None:
        approval_id = (await approvals.propose(incident_id, required_approvals=2)).approval_id
        one, other = await asyncio.gather(approvals.approve(approval_id), replica.approve(approval_id))
        assert one == other
        assert one.state == State.STATE_PENDING
        assert len(one.decisions) == 1

    await _rounds(one_round, rounds=100)


async def test_three_yes_that_race_complete_a_quorum_of_two_once(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened()

    async def one_round() -> None:
        approval_id = (await approvals.propose(incident_id, required_approvals=2)).approval_id
        outcomes = await _outcomes(
            [
                approvals.approve(approval_id, actor="alice"),
                replica.approve(approval_id, actor="bob"),
                approvals.approve(approval_id, actor="carol"),
            ]
        )
        states = Counter(
            outcome.state if isinstance(outcome, approval_pb2.Approval) else outcome.metadata["current_state"]
            for outcome in outcomes
        )
        assert states == {State.STATE_PENDING: 1, State.STATE_APPROVED: 1, "APPROVED": 1}
        assert len((await approvals.get(approval_id)).decisions) == 2

    await _rounds(one_round, rounds=100)


async def test_a_hundred_executions_at_once_are_one(
    approvals: Approvals,
    replica: Approvals,
    incidents: Incidents,
    approval_service: RunningService,
) -> None:
    approval_id = (await approvals.approved(await incidents.opened())).approval_id
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


async def test_two_executions_that_race_with_auto_execute_are_one(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    before = await _noops(approvals)

    async def one_round() -> None:
        approval_id = (await approvals.approved(await incidents.opened(), auto_execute=True)).approval_id
        answers = await asyncio.gather(approvals.execute(approval_id), replica.execute(approval_id))
        assert sum(not answer.already_executed for answer in answers) <= 1
        await approvals.until_delivered(approval_id)

    await _rounds(one_round, rounds=60)
    assert await _noops(approvals) == before + 60


async def test_executing_again_while_deliveries_are_acknowledged_disturbs_neither(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    ids = [(await approvals.approved(await incidents.opened())).approval_id for _ in range(60)]
    for _ in range(3):
        answers = await asyncio.gather(
            *(service.execute(approval_id) for approval_id in ids for service in (approvals, replica))
        )
        assert {answer.approval.state for answer in answers} == {State.STATE_SUCCEEDED}
    for approval_id in ids:
        await approvals.until_delivered(approval_id)


async def _noops(approvals: Approvals) -> int:
    return (await approvals.figures()).executions.noop_executions_total
