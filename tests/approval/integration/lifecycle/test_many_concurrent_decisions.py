"""Decisions in a thousand rounds of concurrent calls, over two processes and within each: one wins."""

import random
from collections import Counter
from collections.abc import Sequence

import asyncpg
import grpc
import pytest

from awoooi.approval.v1 import approval_pb2
from tests.approval.integration.racing import (
    ROUNDS,
    SAME,
    Racers,
    copies,
    count_executed,
    counters,
    in_rounds,
    race,
    states,
)
from tests.approval.schemas import rows
from tests.callers import Incidents, State
from tests.eventually import eventually
from tests.rpc_errors import Refused

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]


async def _decisions(url: str, approval_ids: Sequence[str]) -> dict[str, str]:
    """The actor of the decision about each decided approval; fails when there are two."""
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


async def test_of_two_concurrent_approvals_one_approves_and_the_action_is_executed_once(
    racers: Racers, incidents: Incidents
) -> None:
    one, _ = racers.pair(0)
    original = await one.proposed(await incidents.opened_id(), auto_execute=True)
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
    assert await count_executed(racers.url) == ROUNDS
    assert await counters(racers.url, "executions") == {"NOOP": ROUNDS}
    assert await counters(racers.url, "approvals") == {"PENDING": 1, "SUCCEEDED": ROUNDS}


async def test_of_a_concurrent_approval_and_rejection_one_decides_and_only_an_approval_is_executed(
    racers: Racers, incidents: Incidents
) -> None:
    one, _ = racers.pair(0)
    original = await one.proposed(await incidents.opened_id(), auto_execute=True)
    ids = await copies(racers.url, original, SAME)

    async def one_round(number: int, approval_id: str) -> str:
        first, second = racers.pair(number)
        calls = first.approve(approval_id, actor="yes"), second.reject(approval_id, actor="no")
        # The first call has a start; each kind is first as often as the other.
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
    assert await count_executed(racers.url) == won["yes"]
    assert await counters(racers.url, "executions") == {"NOOP": won["yes"]}
    assert await counters(racers.url, "approvals") == {
        "PENDING": 1,
        "SUCCEEDED": won["yes"],
        "REJECTED": won["no"],
    }


async def test_concurrent_approvals_complete_a_quorum_of_two_once_and_the_proposer_never_counts(
    racers: Racers, incidents: Incidents
) -> None:
    one, other = racers.pair(2)
    original = await one.proposed(
        await incidents.opened_id(), actor="proposer", required_approvals=2, auto_execute=True
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
        # Which of the two depends on whether the quorum was complete.
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
    assert await count_executed(racers.url) == len(ids)
    assert await counters(racers.url, "executions") == {"NOOP": len(ids)}
    assert await counters(racers.url, "approvals") == {"PENDING": 1, "SUCCEEDED": len(ids)}


async def test_of_a_concurrent_expiry_and_approval_one_wins_and_an_expired_approval_is_never_executed(
    racers: Racers, incidents: Incidents
) -> None:
    one, _ = racers.pair(0)
    original = await one.proposed(await incidents.opened_id(), auto_execute=True)
    ids = await copies(racers.url, original, SAME)
    # The longest time until the expiry, in seconds. It is adjusted by each winner, so that on any machine each wins about
    # as often.
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
    executed = await count_executed(racers.url)
    ran = await rows(racers.url, "SELECT approval_id FROM approvals WHERE execute_time IS NOT NULL")
    assert {approval_id for (approval_id,) in ran} <= approved
    assert len(ran) == executed
    assert final == {"PENDING": 1, "SUCCEEDED": executed, "EXPIRED": ROUNDS - executed}
    assert await counters(racers.url, "approvals") == final
    assert await counters(racers.url, "executions") == {"NOOP": executed}
    expired = await rows(racers.url, "SELECT FROM outbox WHERE dedup_key LIKE '%/expired/%'")
    assert len(expired) == final["EXPIRED"]
