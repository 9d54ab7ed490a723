"""Approve and Reject: quorum, who may, what is refused."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest

from awoooi.approval.v1 import approval_pb2
from tests.approval.schemas import rows
from tests.callers import RESTART, Approvals, Incidents, State
from tests.eventually import eventually
from tests.rpc_errors import Refused, refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNKNOWN = "APR-20200101-00000000DEAD"


def _assert_not_allowed(refusal: Refused, *, current: str, allowed: str) -> None:
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "APPROVAL_STATE_NOT_ALLOWED",
    )
    assert refusal.metadata == {"current_state": current, "allowed_states": allowed}
    assert refusal.preconditions == (f"is {current}, must be one of: {allowed}",)


async def test_one_approving_decision_is_enough_when_one_is_required(
    approvals: Approvals, incidents: Incidents
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id())
    approval = await approvals.approve(proposed.approval_id, actor="alice", reason="looks right")
    assert approval.state == State.STATE_APPROVED
    (decision,) = approval.decisions
    assert (decision.actor, decision.kind, decision.reason, decision.policy_rule) == (
        "alice",
        approval_pb2.Decision.KIND_APPROVE,
        "looks right",
        "",
    )
    assert decision.decide_time == approval.decide_time
    assert approval.etag != proposed.etag
    assert await approvals.get(approval.approval_id) == approval


async def test_two_distinct_approvers_are_needed_when_two_are_required(
    approvals: Approvals, incidents: Incidents
) -> None:
    approval = await approvals.proposed(await incidents.opened_id(), required_approvals=2)
    approval = await approvals.approve(approval.approval_id, actor="alice")
    assert approval.state == State.STATE_PENDING
    assert not approval.HasField("decide_time")
    approval = await approvals.approve(approval.approval_id, actor="bob")
    assert approval.state == State.STATE_APPROVED
    assert [decision.actor for decision in approval.decisions] == ["alice", "bob"]
    refusal = await refused(approvals.approve(approval.approval_id, actor="carol"))
    _assert_not_allowed(refusal, current="APPROVED", allowed="PENDING")


async def test_approving_twice_is_idempotent_and_counts_once(
    approvals: Approvals, incidents: Incidents
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id(), required_approvals=2)
    once = await approvals.approve(proposed.approval_id, actor="alice", reason="first")
    twice = await approvals.approve(proposed.approval_id, actor="alice", reason="second")
    assert twice == once
    assert twice.state == State.STATE_PENDING


async def test_approving_again_is_idempotent_in_every_state_and_with_every_etag(
    approvals: Approvals, incidents: Incidents
) -> None:
    approval = await approvals.executed(await incidents.opened_id())
    again = await approvals.approve(approval.approval_id, etag="stale")
    assert again.state == State.STATE_SUCCEEDED
    assert len(again.decisions) == 1


async def test_one_rejecting_decision_is_enough_with_every_quorum(
    approvals: Approvals, incidents: Incidents
) -> None:
    approval = await approvals.proposed(await incidents.opened_id(), required_approvals=3)
    await approvals.approve(approval.approval_id, actor="alice")
    rejected = await approvals.reject(approval.approval_id, actor="bob", reason="too risky")
    assert rejected.state == State.STATE_REJECTED
    assert rejected.outcome_message == "too risky"
    assert rejected.HasField("decide_time")
    assert [decision.kind for decision in rejected.decisions] == [
        approval_pb2.Decision.KIND_APPROVE,
        approval_pb2.Decision.KIND_REJECT,
    ]
    assert await approvals.reject(approval.approval_id, actor="bob") == rejected


@pytest.mark.parametrize("decide", ["approve", "reject"])
async def test_self_approval_is_refused(approvals: Approvals, incidents: Incidents, decide: str) -> None:
    proposed = await approvals.proposed(await incidents.opened_id(), actor="ai")
    refusal = await refused(getattr(approvals, decide)(proposed.approval_id, actor="ai"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "OWN_PROPOSAL")
    assert await approvals.get(proposed.approval_id) == proposed


@pytest.mark.parametrize("decide", ["approve", "reject"])
async def test_an_unknown_approval_is_not_found(approvals: Approvals, decide: str) -> None:
    refusal = await refused(getattr(approvals, decide)(UNKNOWN))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "APPROVAL_NOT_FOUND")
    assert refusal.resource == ("awoooi.approval.v1.Approval", UNKNOWN)


@pytest.mark.parametrize("decide", ["approve", "reject"])
async def test_a_stale_etag_is_refused_and_the_current_one_accepted(
    approvals: Approvals, incidents: Incidents, decide: str
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id(), required_approvals=3)
    changed = await approvals.approve(proposed.approval_id, actor="alice")
    refusal = await refused(getattr(approvals, decide)(proposed.approval_id, actor="bob", etag=proposed.etag))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "APPROVAL_CHANGED")
    assert await approvals.get(proposed.approval_id) == changed
    decided = await getattr(approvals, decide)(proposed.approval_id, actor="bob", etag=changed.etag)
    assert len(decided.decisions) == 2


# A decision, and the state that it leads to.
DECIDED: dict[str, tuple[str, str]] = {
    "rejected": ("reject", "REJECTED"),
    "approved": ("approve", "APPROVED"),
}


@pytest.mark.parametrize("decide", ["approve", "reject"])
@pytest.mark.parametrize(("before", "state"), DECIDED.values(), ids=DECIDED)
async def test_a_decided_approval_cannot_be_decided_by_another_actor(
    approvals: Approvals, incidents: Incidents, decide: str, before: str, state: str
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id())
    decided = await getattr(approvals, before)(proposed.approval_id, actor="alice")
    refusal = await refused(getattr(approvals, decide)(proposed.approval_id, actor="bob"))
    _assert_not_allowed(refusal, current=state, allowed="PENDING")
    assert await approvals.get(proposed.approval_id) == decided


@pytest.mark.parametrize("decide", ["approve", "reject"])
async def test_an_executed_approval_cannot_be_decided(
    approvals: Approvals, incidents: Incidents, decide: str
) -> None:
    approval = await approvals.executed(await incidents.opened_id())
    refusal = await refused(getattr(approvals, decide)(approval.approval_id, actor="bob"))
    _assert_not_allowed(refusal, current="SUCCEEDED", allowed="PENDING")


@pytest.mark.parametrize(("before", "after"), [("approve", "reject"), ("reject", "approve")])
async def test_a_conflicting_decision_of_the_same_actor_is_refused(
    approvals: Approvals, incidents: Incidents, before: str, after: str
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id())
    decided = await getattr(approvals, before)(proposed.approval_id, actor="alice")
    refusal = await refused(getattr(approvals, after)(proposed.approval_id, actor="alice"))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert await approvals.get(proposed.approval_id) == decided


@pytest.mark.parametrize(
    ("before", "after", "state"), [("approve", "reject", "APPROVED"), ("reject", "approve", "REJECTED")]
)
async def test_a_conflicting_decision_gets_the_current_and_the_allowed_states(
    approvals: Approvals, incidents: Incidents, before: str, after: str, state: str
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id())
    await getattr(approvals, before)(proposed.approval_id, actor="alice")
    refusal = await refused(getattr(approvals, after)(proposed.approval_id, actor="alice"))
    assert refusal.metadata == {"current_state": state, "allowed_states": "PENDING"}


async def _let_expire(service: RunningService, approval_id: str) -> None:
    # Time passes by the row's own clock, without waiting.
    await rows(
        service.database_url,
        "UPDATE approvals SET expire_time = now() WHERE approval_id = $1",
        approval_id,
    )


@pytest.mark.parametrize("decide", ["approve", "reject"])
async def test_an_expired_approval_cannot_be_decided(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, decide: str
) -> None:
    approval_id = (await approvals.proposed(await incidents.opened_id())).approval_id
    await _let_expire(approval_service, approval_id)
    refusal = await refused(getattr(approvals, decide)(approval_id))
    _assert_not_allowed(refusal, current="EXPIRED", allowed="PENDING")
    assert not (await approvals.get(approval_id)).decisions


async def test_the_ttl_of_the_proposal_sets_its_expiry(approvals: Approvals, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id()
    short = await approvals.proposed(incident_id, ttl=timedelta(seconds=0.001))
    long = await approvals.proposed(incident_id, ttl=timedelta(seconds=3600))
    refusal = await refused(approvals.approve(short.approval_id))
    _assert_not_allowed(refusal, current="EXPIRED", allowed="PENDING")
    assert (await approvals.approve(long.approval_id)).state == State.STATE_APPROVED


async def test_a_quorum_approves_with_its_last_decision_and_executes_once(
    approvals: Approvals, incidents: Incidents
) -> None:
    proposed = await approvals.proposed(await incidents.opened_id(), required_approvals=3, auto_execute=True)
    await asyncio.gather(
        *(approvals.approve(proposed.approval_id, actor=actor) for actor in ("alice", "bob", "carol"))
    )
    delivered = await approvals.until_delivered(proposed.approval_id)
    assert {decision.actor for decision in delivered.decisions} == {"alice", "bob", "carol"}


async def test_with_auto_execute_an_approval_is_executed_without_another_call(
    approvals: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    approval = await approvals.approved(incident_id, auto_execute=True)
    assert approval.state in (State.STATE_APPROVED, State.STATE_EXECUTING, State.STATE_SUCCEEDED)
    delivered = await approvals.until_delivered(approval.approval_id)
    assert delivered.state == State.STATE_SUCCEEDED
    assert (await incidents.get(incident_id)).resolved_by == "service:approval"


async def test_with_auto_execute_an_unparsable_action_fails_without_another_call(
    approvals: Approvals, incidents: Incidents
) -> None:
    approval = await approvals.approved(await incidents.opened_id(), "do something", auto_execute=True)
    failed = await eventually(
        lambda: approvals.get(approval.approval_id), lambda found: found.state == State.STATE_FAILED
    )
    assert failed.outcome_message.startswith("cannot parse action")


WAITING: dict[str, dict[str, Any]] = {
    "without_auto_execute": {"auto_execute": False},
    "without_an_executor": {"auto_execute": True, "action": RESTART},
}


@pytest.mark.parametrize("fields", WAITING.values(), ids=WAITING)
async def test_without_auto_execute_or_an_executor_nothing_is_queued(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, fields: dict[str, Any]
) -> None:
    approval = await approvals.approved(await incidents.opened_id(), **fields)
    # Queued in the deciding transaction or never.
    jobs = await rows(
        approval_service.database_url, "SELECT topic FROM outbox WHERE dedup_key = $1", approval.approval_id
    )
    assert not jobs
    assert (await approvals.get(approval.approval_id)).state == State.STATE_APPROVED
