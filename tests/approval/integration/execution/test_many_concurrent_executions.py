"""Executions in a thousand rounds of concurrent calls, over two processes and within each: idempotent."""

from collections import Counter

import pytest

from approval.actions.parsed import parse
from awoooi.approval.v1 import approval_service_pb2 as pb
from tests.approval.integration.racing import (
    ROUNDS,
    SAME,
    Racers,
    copies,
    count_executed,
    counters,
    in_rounds,
    race,
)
from tests.approval.schemas import rows
from tests.callers import Incidents, State
from tests.receiver import status
from tests.rpc_errors import Refused

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]


async def test_two_concurrent_executions_of_a_no_action_are_idempotent(
    racers: Racers, incidents: Incidents
) -> None:
    one, _ = racers.pair(0)
    ids = await copies(racers.url, await one.approved(await incidents.opened_id()), SAME)

    async def one_round(number: int, approval_id: str) -> None:
        first, second = racers.pair(number)
        answers = await race(first.execute(approval_id), second.execute(approval_id))
        found = [answer for answer in answers if isinstance(answer, pb.ExecuteResponse)]
        assert sorted(answer.already_executed for answer in found) == [False, True]
        assert {answer.approval.state for answer in found} == {State.STATE_SUCCEEDED}
        assert len({answer.approval.finish_time.ToNanoseconds() for answer in found}) == 1

    await in_rounds(one_round, ids)
    assert await count_executed(racers.url) == ROUNDS
    assert await counters(racers.url, "executions") == {"NOOP": ROUNDS}
    assert await counters(racers.url, "approvals") == {"APPROVED": 1, "SUCCEEDED": ROUNDS}


def _on_hook(number: int) -> dict[str, str]:
    action = f"HTTP POST hook-{number}"
    parsed = parse(action)
    assert parsed.operation is not None
    return {
        "action": action,
        "hook": parsed.operation.hook,
        "target": parsed.operation.target,
        "action_hash": parsed.hash,
    }


async def test_of_two_concurrent_executions_of_an_operation_one_runs_it(
    racers: Racers, incidents: Incidents
) -> None:
    one, _ = racers.pair(0)
    original = await one.approved(await incidents.opened_id(), f"HTTP POST hook-{ROUNDS}")
    ids = await copies(racers.url, original, [_on_hook(number) for number in range(ROUNDS)])
    # One that worked would resolve the incident, and leave nothing to run for the others.
    racers.hooks.answers.extend([status(500)] * (2 * ROUNDS))

    async def one_round(number: int, approval_id: str) -> None:
        first, second = racers.pair(number)
        answers = await race(first.execute(approval_id), second.execute(approval_id))
        [winner] = [
            answer
            for answer in answers
            if isinstance(answer, pb.ExecuteResponse) and not answer.already_executed
        ]
        assert winner.approval.state == State.STATE_FAILED
        assert winner.approval.outcome_message == f"the hook hook-{number} answered 500"
        [other] = [answer for answer in answers if answer is not winner]
        # While it runs there is no outcome yet.
        if isinstance(other, Refused):
            assert other.metadata == {"current_state": "EXECUTING", "allowed_states": "APPROVED"}
        else:
            assert other.approval.finish_time == winner.approval.finish_time

    await in_rounds(one_round, ids)
    called = Counter(request.headers["idempotency-key"] for request in racers.hooks.requests)
    assert called == Counter(ids)
    logged = await rows(racers.url, "SELECT approval_id, succeeded FROM auto_repair_executions")
    assert Counter(logged) == Counter((approval_id, False) for approval_id in ids)
    assert await counters(racers.url, "executions") == {"FAILED": ROUNDS}
    assert await counters(racers.url, "approvals") == {"APPROVED": 1, "FAILED": ROUNDS}
