"""A proposal that supersedes a PENDING one: one story, in one transaction."""

import asyncio
import secrets
from collections import Counter
from datetime import timedelta

import grpc
import pytest

from awoooi.approval.v1 import approval_pb2
from tests.approval.integration.racing import counters, race
from tests.approval.repairs import EventType, timeline_events
from tests.approval.schemas import contents, rows
from tests.audit_trail import record
from tests.callers import UNPARSABLE, Approvals, Incidents, State
from tests.rpc_errors import Refused, refused
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

THREE = "SCALE deployment/api --replicas=3 -n prod"
FIVE = "SCALE deployment/api --replicas=5 -n prod"
UNKNOWN = "APR-20200101-00000000DEAD"
_ROUNDS = 60


async def test_the_two_are_linked_and_the_superseded_one_is_cancelled_with_a_reason(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    before = (await approvals.stats()).approvals
    old = await approvals.proposed(await incidents.opened_id(), THREE, required_approvals=2)
    await approvals.approve(old.approval_id)
    new = await approvals.proposed(old.incident_id, FIVE, supersedes=old.approval_id)
    assert (new.state, new.supersedes, new.superseded_by) == (State.STATE_PENDING, old.approval_id, "")
    assert list(new.superseded_proposers) == ["proposer"]
    # Decisions about the one are none about the other.
    assert not new.decisions
    superseded = await approvals.get(old.approval_id)
    assert (superseded.state, superseded.superseded_by) == (State.STATE_CANCELLED, new.approval_id)
    assert superseded.outcome_message == f"superseded by {new.approval_id}"
    assert superseded.HasField("decide_time")
    assert superseded.update_time == new.create_time
    assert superseded.etag != old.etag
    refusal = await refused(approvals.approve(old.approval_id, actor="bob"))
    assert refusal.metadata == {"current_state": "CANCELLED", "allowed_states": "PENDING"}
    decided = await approvals.approve(new.approval_id)
    assert decided.state == State.STATE_APPROVED
    after = (await approvals.stats()).approvals
    assert after.superseded_total == before.superseded_total + 1
    kept = await record(approval_service.database_url, new.approval_id, outcome="CHANGED", actor="proposer")
    assert kept["targets"].split() == [new.approval_id, old.incident_id, old.approval_id]


async def test_the_incident_s_timeline_tells_one_story(approvals: Approvals, incidents: Incidents) -> None:
    old = await approvals.proposed(await incidents.opened_id(), "NO_ACTION: wait for 3 minutes")
    new = await approvals.proposed(
        old.incident_id, "NO_ACTION: wait for 5 minutes", actor="planner", supersedes=old.approval_id
    )
    (cancelled,) = await timeline_events(incidents, old.incident_id, EventType.TYPE_CANCELLED)
    assert cancelled.summary == "superseded: NO_ACTION: wait for 5 minutes"
    assert cancelled.attributes == {
        "approval_id": old.approval_id,
        "superseded_by": new.approval_id,
        "actor": "planner",
    }
    # The resolve brings the proposal again: it is the same entry.
    await approvals.approve(new.approval_id)
    await approvals.execute(new.approval_id)
    await approvals.until_delivered(new.approval_id)
    events = await incidents.events(old.incident_id, EventType.TYPE_PROPOSED)
    proposed = {event.attributes["approval_id"]: event for event in events}
    assert len(events) == len(proposed) == 2
    assert proposed[new.approval_id].attributes["supersedes"] == old.approval_id
    assert proposed[new.approval_id].event_time == cancelled.event_time


async def test_superseding_is_idempotent_by_request_id(
    approvals: Approvals, replica: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    old = await approvals.proposed(await incidents.opened_id(), THREE)
    request_id = secrets.token_hex(8)
    fields = {"supersedes": old.approval_id, "request_id": request_id}
    first, *others = await asyncio.gather(
        *(service.proposed(old.incident_id, FIVE, **fields) for service in [approvals, replica] * 3)
    )
    assert {each.approval_id for each in others} == {first.approval_id}
    before = await contents(approval_service.database_url)
    again = await approvals.proposed(old.incident_id, FIVE, **fields)
    assert again.approval_id == first.approval_id
    assert await contents(approval_service.database_url) == before
    # Another target under the same request id is another request.
    other = await approvals.proposed(old.incident_id, THREE)
    refusal = await refused(
        approvals.proposed(old.incident_id, FIVE, supersedes=other.approval_id, request_id=request_id)
    )
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


@pytest.mark.parametrize("case", ["unknown", "of another incident", "decided", "expired", "superseded"])
async def test_what_may_not_be_superseded_is_refused_and_nothing_is_written(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, case: str
) -> None:
    incident_id = await incidents.opened_id()
    old = await approvals.proposed(incident_id, THREE)
    metadata: dict[str, str] = {}
    expected = (grpc.StatusCode.FAILED_PRECONDITION, "APPROVAL_STATE_NOT_ALLOWED")
    supersedes = old.approval_id
    match case:
        case "unknown":
            supersedes = UNKNOWN
            expected = (grpc.StatusCode.NOT_FOUND, "APPROVAL_NOT_FOUND")
        case "of another incident":
            incident_id = await incidents.opened_id()
            expected = (grpc.StatusCode.FAILED_PRECONDITION, "SUPERSEDES_OTHER_INCIDENT")
        case "decided":
            await approvals.approve(old.approval_id)
            metadata = {"current_state": "APPROVED", "allowed_states": "PENDING"}
        case "expired":
            await rows(
                approval_service.database_url,
                "UPDATE approvals SET expire_time = now() WHERE approval_id = $1",
                old.approval_id,
            )
            metadata = {"current_state": "EXPIRED", "allowed_states": "PENDING"}
        case "superseded":
            new = await approvals.proposed(incident_id, FIVE, supersedes=old.approval_id)
            expected = (grpc.StatusCode.FAILED_PRECONDITION, "ALREADY_SUPERSEDED")
            metadata = {
                "current_state": "CANCELLED",
                "allowed_states": "PENDING",
                "superseded_by": new.approval_id,
            }
    before = await contents(approval_service.database_url)
    refusal = await refused(approvals.proposed(incident_id, FIVE, supersedes=supersedes))
    assert (refusal.code, refusal.reason) == expected
    assert refusal.metadata == metadata
    if not metadata:
        assert refusal.resource == ("awoooi.approval.v1.Approval", supersedes)
    assert await contents(approval_service.database_url) == before


async def test_an_unparsable_proposal_can_supersede_and_be_superseded(
    approvals: Approvals, incidents: Incidents
) -> None:
    first = await approvals.proposed(await incidents.opened_id(), UNPARSABLE)
    second = await approvals.proposed(first.incident_id, UNPARSABLE, supersedes=first.approval_id)
    third = await approvals.proposed(first.incident_id, THREE, supersedes=second.approval_id)
    assert third.supersedes == second.approval_id


async def test_a_proposer_does_not_decide_about_a_proposal_that_supersedes_its_own(
    approvals: Approvals, incidents: Incidents
) -> None:
    first = await approvals.proposed(await incidents.opened_id(), THREE, actor="alice")
    second = await approvals.proposed(first.incident_id, FIVE, actor="bob", supersedes=first.approval_id)
    third = await approvals.proposed(
        first.incident_id, THREE, actor="bob", supersedes=second.approval_id, required_approvals=2
    )
    assert list(third.superseded_proposers) == ["bob", "alice"]
    for actor in ("alice", "bob", "Alice"):
        for decide in (approvals.approve, approvals.reject):
            refusal = await refused(decide(third.approval_id, actor=actor))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "OWN_PROPOSAL")
    await approvals.approve(third.approval_id, actor="carol")
    decided = await approvals.approve(third.approval_id, actor="dave")
    assert decided.state == State.STATE_APPROVED


async def test_of_a_concurrent_approval_and_a_superseding_proposal_one_wins(
    approvals: Approvals, replica: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    incident_id = await incidents.opened_id()
    before = await counters(approval_service.database_url, "approvals_superseded")
    winners: Counter[str] = Counter()

    async def one_round(number: int) -> None:
        old = await approvals.proposed(incident_id, THREE, auto_execute=False)
        first, second = (approvals, replica) if number % 2 else (replica, approvals)
        approved, proposed = await race(
            first.approve(old.approval_id),
            second.proposed(incident_id, FIVE, supersedes=old.approval_id),
        )
        found = await approvals.get(old.approval_id)
        if isinstance(approved, Refused):
            assert isinstance(proposed, approval_pb2.Approval)
            assert approved.metadata["current_state"] == "CANCELLED"
            assert (found.state, found.superseded_by) == (State.STATE_CANCELLED, proposed.approval_id)
            assert not found.decisions
            winners["proposed"] += 1
        else:
            assert isinstance(proposed, Refused)
            assert proposed.metadata == {"current_state": "APPROVED", "allowed_states": "PENDING"}
            assert (found.state, found.superseded_by) == (State.STATE_APPROVED, "")
            winners["approved"] += 1

    for number in range(0, _ROUNDS, 6):
        await asyncio.gather(*(one_round(each) for each in range(number, number + 6)))
    assert winners.total() == _ROUNDS
    after = await counters(approval_service.database_url, "approvals_superseded")
    assert after.get("", 0) - before.get("", 0) == winners["proposed"]
    count = await rows(
        approval_service.database_url, "SELECT count(*) FROM approvals WHERE incident_id = $1", incident_id
    )
    # Nothing is left of those that lost.
    assert count == [(_ROUNDS + winners["proposed"],)]


async def test_of_concurrent_superseding_proposals_one_wins(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()

    async def one_round(_number: int) -> None:
        old = await approvals.proposed(incident_id, THREE)
        outcomes = await race(
            *(
                service.proposed(incident_id, FIVE, supersedes=old.approval_id)
                for service in (approvals, replica, approvals)
            )
        )
        (won,) = [each for each in outcomes if isinstance(each, approval_pb2.Approval)]
        lost = [each for each in outcomes if isinstance(each, Refused)]
        assert [each.reason for each in lost] == ["ALREADY_SUPERSEDED"] * 2
        assert {each.metadata["superseded_by"] for each in lost} == {won.approval_id}

    for number in range(0, _ROUNDS, 6):
        await asyncio.gather(*(one_round(each) for each in range(number, number + 6)))


async def test_a_proposal_lives_as_long_as_its_own_ttl_says(
    approvals: Approvals, incidents: Incidents
) -> None:
    old = await approvals.proposed(await incidents.opened_id(), THREE, ttl=timedelta(hours=1))
    new = await approvals.proposed(old.incident_id, FIVE, ttl=timedelta(hours=5), supersedes=old.approval_id)
    assert new.expire_time.ToDatetime() - new.create_time.ToDatetime() == timedelta(hours=5)
