"""A thousand rounds of each race, over two processes and within each: one winner, and everybody is told the truth."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import grpc
import pytest
import pytest_asyncio

from approval.actions.grammar import parse_action
from approval.actions.parsed import action_hash
from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from tests.approval.callers import Approvals, Incidents, State, approvals_at
from tests.approval.hooks import WITHOUT_LIMITS, hook_variables, hooked_service
from tests.approval.racing import copies, counters, in_rounds, race, states
from tests.approval.schemas import approval_database, rows
from tests.eventually import eventually
from tests.receiver import Receiver, receiver, status
from tests.rpc_errors import Refused
from tests.services import RunningService, healthy_service

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

ROUNDS = 1000
SAME: Sequence[dict[str, str]] = [{}] * ROUNDS
# Much fewer hooks would not do: one target is operated on once at a time.
HOOKS = ROUNDS + 1


class Racers:
    """Two processes over one database, and the receiver of their hooks."""

    def __init__(self, url: str, services: Sequence[Approvals], hooks: Receiver) -> None:
        self.url = url
        self.hooks = hooks
        self._services = services

    def pair(self, number: int) -> tuple[Approvals, Approvals]:
        """Who races in a round: each with the other and each with itself in turn."""
        return self._services[number % 2], self._services[number // 2 % 2]


@pytest_asyncio.fixture(loop_scope="session")
async def racers(incident_service: RunningService, tmp_path: Path) -> AsyncIterator[Racers]:
    async with approval_database() as url, receiver() as hooks:
        variables = {
            "APPROVAL_INCIDENT_TARGET": incident_service.address,
            "APPROVAL_DATABASE_POOL_SIZE": "20",
            "APPROVAL_INCIDENT_CHECK_TIMEOUT": "30s",
            **hook_variables(tmp_path, hooks, hooks=HOOKS),
            **WITHOUT_LIMITS,
        }
        async with (
            hooked_service(url, hooks, variables) as one,
            # One of the two does what runs by itself, as often as it can.
            healthy_service("approval", url, variables=variables | {"APPROVAL_EXPIRE_EVERY": "5ms"}) as other,
            approvals_at(other.address) as at_other,
        ):
            yield Racers(url, [one.approvals, at_other], hooks)


async def _executed(url: str) -> int:
    """How many were executed, once none waits for it, each checked to have happened once."""
    waiting = "SELECT FROM outbox WHERE topic = 'approval.execute' AND state = 'PENDING'"
    await eventually(lambda: rows(url, waiting), lambda found: not found)
    succeeded = "SELECT approval_id FROM approvals WHERE state = 'SUCCEEDED' ORDER BY 1"
    told = "SELECT dedup_key FROM outbox WHERE topic = 'incident.resolve' ORDER BY 1"
    executed = await rows(url, succeeded)
    assert await rows(url, told) == executed
    return len(executed)


async def _decisions(url: str, approval_ids: Sequence[str]) -> dict[str, str]:
    """Who decided about each of the approvals that anybody decided about; fails when two did."""
    found = await rows(
        url, "SELECT approval_id, actor FROM approval_decisions WHERE approval_id = ANY ($1)", approval_ids
    )
    decided = dict(found)
    assert len(decided) == len(found)
    return decided


def _is_refused_in(outcome: object, *states: str) -> bool:
    return (
        isinstance(outcome, Refused)
        and (outcome.code, outcome.reason)
        == (grpc.StatusCode.FAILED_PRECONDITION, "APPROVAL_STATE_NOT_ALLOWED")
        and outcome.metadata["current_state"] in states
        and outcome.metadata["allowed_states"] == "PENDING"
    )


async def test_of_two_yes_one_approves_and_the_action_is_executed_once(
    racers: Racers, incidents: Incidents
) -> None:
    one, _ = racers.pair(0)
    original = await one.propose(await incidents.opened(), auto_execute=True)
    ids = await copies(racers.url, original, SAME)

    async def one_round(number: int, approval_id: str) -> str:
        first, second = racers.pair(number)
        alice, bob = await race(
            first.approve(approval_id, actor="alice"), second.approve(approval_id, actor="bob")
        )
        won, lost, winner = (bob, alice, "bob") if isinstance(alice, Refused) else (alice, bob, "alice")
        assert isinstance(won, approval_pb2.Approval)
        assert _is_refused_in(lost, "APPROVED", "SUCCEEDED")
        return winner

    winners = await in_rounds(one_round, ids)
    assert await _decisions(racers.url, ids) == dict(zip(ids, winners, strict=True))
    assert await _executed(racers.url) == ROUNDS
    assert await counters(racers.url, "executions") == {"NOOP": ROUNDS}
    assert await counters(racers.url, "approvals") == {"PENDING": 1, "SUCCEEDED": ROUNDS}


async def test_of_a_yes_and_a_no_one_decides_and_only_a_yes_is_executed(
    racers: Racers, incidents: Incidents
) -> None:
    one, _ = racers.pair(0)
    original = await one.propose(await incidents.opened(), auto_execute=True)
    ids = await copies(racers.url, original, SAME)

    async def one_round(number: int, approval_id: str) -> str:
        first, second = racers.pair(number)
        calls = first.approve(approval_id, actor="yes"), second.reject(approval_id, actor="no")
        # Who is sent first has a start; each has it as often as the other.
        yes, no = await race(*calls) if number % 4 < 2 else reversed(await race(*reversed(calls)))
        if isinstance(no, Refused):
            assert isinstance(yes, approval_pb2.Approval)
            assert _is_refused_in(no, "APPROVED", "SUCCEEDED")
            return "yes"
        assert no.state == State.STATE_REJECTED
        assert _is_refused_in(yes, "REJECTED")
        return "no"

    winners = await in_rounds(one_round, ids)
    assert await _decisions(racers.url, ids) == dict(zip(ids, winners, strict=True))
    won = Counter(winners)
    assert set(won) == {"yes", "no"}
    assert await _executed(racers.url) == won["yes"]
    assert await counters(racers.url, "executions") == {"NOOP": won["yes"]}
    assert await counters(racers.url, "approvals") == {
        "PENDING": 1,
        "SUCCEEDED": won["yes"],
        "REJECTED": won["no"],
    }


async def test_of_three_who_may_and_the_proposer_two_make_a_quorum_of_two(
    racers: Racers, incidents: Incidents
) -> None:
    one, other = racers.pair(2)
    original = await one.propose(
        await incidents.opened(), actor="proposer", required_approvals=2, auto_execute=True
    )
    ids = await copies(racers.url, original, SAME[: ROUNDS // 4])
    may = ("alice", "bob", "carol")

    async def one_round(number: int, approval_id: str) -> set[str]:
        first, second = (one, other) if number % 2 else (other, one)
        *votes, own = await race(
            *(
                service.approve(approval_id, actor=actor)
                for service, actor in zip((first, second, first), may, strict=True)
            ),
            second.approve(approval_id, actor="proposer"),
        )
        assert isinstance(own, Refused)
        # Which of the two it is told depends on who came before.
        assert own.reason == "OWN_PROPOSAL" or _is_refused_in(own, "APPROVED", "SUCCEEDED")
        [late] = [vote for vote in votes if isinstance(vote, Refused)]
        assert _is_refused_in(late, "APPROVED", "SUCCEEDED")
        return {actor for actor, vote in zip(may, votes, strict=True) if vote is not late}

    winners = await in_rounds(one_round, ids)
    decided = await rows(racers.url, "SELECT approval_id, actor, kind FROM approval_decisions")
    assert Counter(decided) == Counter(
        (approval_id, actor, "APPROVE")
        for approval_id, actors in zip(ids, winners, strict=True)
        for actor in actors
    )
    assert await _executed(racers.url) == len(ids)
    assert await counters(racers.url, "executions") == {"NOOP": len(ids)}
    assert await counters(racers.url, "approvals") == {"PENDING": 1, "SUCCEEDED": len(ids)}


async def test_of_two_executions_of_a_no_action_one_executes_and_the_other_gets_its_outcome(
    racers: Racers, incidents: Incidents
) -> None:
    one, _ = racers.pair(0)
    ids = await copies(racers.url, await one.approved(await incidents.opened()), SAME)

    async def one_round(number: int, approval_id: str) -> None:
        first, second = racers.pair(number)
        answers = await race(first.execute(approval_id), second.execute(approval_id))
        found = [answer for answer in answers if isinstance(answer, pb.ExecuteResponse)]
        assert sorted(answer.already_executed for answer in found) == [False, True]
        assert {answer.approval.state for answer in found} == {State.STATE_SUCCEEDED}
        assert len({answer.approval.finish_time.ToNanoseconds() for answer in found}) == 1

    await in_rounds(one_round, ids)
    assert await _executed(racers.url) == ROUNDS
    assert await counters(racers.url, "executions") == {"NOOP": ROUNDS}
    assert await counters(racers.url, "approvals") == {"APPROVED": 1, "SUCCEEDED": ROUNDS}


def _on_hook(number: int) -> dict[str, str]:
    action = f"HTTP POST hook-{number}"
    operation = parse_action(action)
    return {
        "action": action,
        "hook": operation.hook,
        "target": operation.target,
        "action_hash": action_hash(action, operation),
    }


async def test_of_two_executions_of_an_operation_one_runs_it_and_the_other_is_told(
    racers: Racers, incidents: Incidents
) -> None:
    one, _ = racers.pair(0)
    original = await one.approved(await incidents.opened(), f"HTTP POST hook-{ROUNDS}")
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


async def test_of_an_expiry_and_a_yes_one_counts_and_what_expired_first_is_never_executed(
    racers: Racers, incidents: Incidents
) -> None:
    one, _ = racers.pair(0)
    original = await one.propose(await incidents.opened(), auto_execute=True)
    ids = await copies(racers.url, original, SAME)
    # Seconds until the expiry, at most. It follows whoever won last, so that on any machine each wins about as often.
    window = 0.05

    async with asyncpg.create_pool(racers.url, min_size=1, max_size=10) as pool:

        async def one_round(number: int, approval_id: str) -> str:
            nonlocal window
            first, _ = racers.pair(number)
            await pool.execute(
                "UPDATE approvals SET expire_time = clock_timestamp() + make_interval(secs => $2)"
                " WHERE approval_id = $1",
                approval_id,
                window * random.random(),  # noqa: S311 - a race, not a secret
            )
            (yes,) = await race(first.approve(approval_id))
            if isinstance(yes, Refused):
                assert _is_refused_in(yes, "EXPIRED")
                window *= 1.1
                return "expiry"
            window /= 1.1
            return "yes"

        winners = await in_rounds(one_round, ids)

    won = Counter(winners)
    assert set(won) == {"yes", "expiry"}
    approved = {approval_id for approval_id, winner in zip(ids, winners, strict=True) if winner == "yes"}
    assert set(await _decisions(racers.url, ids)) == approved
    # A yes may come too late for the execution: an approved action expires as well.
    final = await eventually(
        lambda: states(racers.url),
        lambda found: found["PENDING"] == 1 and not {"APPROVED", "EXECUTING"} & found.keys(),
    )
    executed = await _executed(racers.url)
    ran = await rows(racers.url, "SELECT approval_id FROM approvals WHERE execute_time IS NOT NULL")
    assert {approval_id for (approval_id,) in ran} <= approved
    assert len(ran) == executed
    assert final == {"PENDING": 1, "SUCCEEDED": executed, "EXPIRED": ROUNDS - executed}
    assert await counters(racers.url, "approvals") == final
    assert await counters(racers.url, "executions") == {"NOOP": executed}
    expired = await rows(racers.url, "SELECT FROM outbox WHERE dedup_key LIKE '%/expired'")
    assert len(expired) == final["EXPIRED"]
