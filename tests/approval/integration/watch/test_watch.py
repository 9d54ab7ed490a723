"""Watch: which changes of approvals come, in which order, and from where on."""

from typing import Any

import asyncpg
import pytest

from tests.approval.integration.watch.watching import watching
from tests.approval.schemas import rows
from tests.callers import Approvals, Incidents, State
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_approval_is_followed_from_its_proposal_to_the_acknowledgement_of_its_resolve(
    approvals: Approvals, replica: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    watcher = await watching(replica, incident_id=incident_id)
    proposed = await approvals.proposed(incident_id, required_approvals=2)
    await approvals.approve(proposed.approval_id, actor="alice")
    approved = await approvals.approve(proposed.approval_id, actor="bob")
    await approvals.execute(proposed.approval_id)
    acknowledged = await approvals.until_delivered(proposed.approval_id)
    while len(watcher.changes) < 5:
        await watcher.change()
    assert watcher.transitions == [
        ("UNSPECIFIED", "PENDING"),
        ("PENDING", "PENDING"),
        ("PENDING", "APPROVED"),
        ("APPROVED", "SUCCEEDED"),
        ("SUCCEEDED", "SUCCEEDED"),
    ]
    assert watcher.changes[-1].approval == acknowledged
    assert watcher.changes[2].change.change_time == approved.update_time
    assert len({each.change.change_id for each in watcher.changes}) == 5
    # Each comes with the approval as it was then, or later.
    assert all(
        each.approval.update_time.ToDatetime() >= each.change.change_time.ToDatetime()
        for each in watcher.changes
    )


async def test_a_proposal_that_supersedes_another_is_one_change_of_each(
    approvals: Approvals, incidents: Incidents
) -> None:
    old = await approvals.proposed(await incidents.opened_id())
    watcher = await watching(approvals, incident_id=old.incident_id)
    new = await approvals.proposed(old.incident_id, supersedes=old.approval_id)
    changes = [await watcher.change() for _ in range(2)]
    assert {each.approval.approval_id: each.change.state_after for each in changes} == {
        old.approval_id: State.STATE_CANCELLED,
        new.approval_id: State.STATE_PENDING,
    }


@pytest.mark.parametrize(
    ("fields", "comes"),
    [
        ({}, True),
        ({"states": ["PENDING"]}, True),
        ({"states": ["REJECTED"]}, True),
        ({"states": ["APPROVED", "SUCCEEDED"]}, False),
        ({"incident_id": "of another"}, False),
        ({"approval_id": "of another"}, False),
        ({"approval_id": "mine", "states": ["REJECTED"]}, True),
    ],
    ids=str,
)
async def test_a_change_comes_when_it_matches_every_filter(
    approvals: Approvals, incidents: Incidents, fields: dict[str, Any], comes: bool
) -> None:
    mine, other = [await approvals.proposed(await incidents.opened_id()) for _ in range(2)]
    chosen = dict(fields)
    for name in ("incident_id", "approval_id"):
        if name in chosen:
            chosen[name] = getattr(mine if chosen[name] == "mine" else other, name)
    watcher = await watching(approvals, **chosen)
    await approvals.reject(mine.approval_id)
    # The last change matches every filter that `mine` does not, and comes after it.
    last = mine
    if not comes:
        last = other
        if "states" in fields:
            await approvals.approve(other.approval_id)
        else:
            await approvals.reject(other.approval_id)
    await watcher.until_change_of(last.approval_id)
    came = {each.approval.approval_id for each in watcher.changes} & {mine.approval_id, other.approval_id}
    assert came == {last.approval_id}


async def test_existing_approvals_come_first_and_changes_follow_without_a_gap(
    approvals: Approvals, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()
    waiting = [(await approvals.proposed(incident_id)).approval_id for _ in range(3)]
    await approvals.reject(waiting[0])
    watcher = await watching(approvals, incident_id=incident_id, states=["PENDING"], include_existing=True)
    *existing, beginning = watcher.responses
    assert {each.approval.approval_id for each in existing} == set(waiting[1:])
    assert not any(each.resume_token or each.HasField("change") for each in existing)
    assert not beginning.HasField("approval")
    await approvals.approve(waiting[1])
    assert await watcher.until_change_of(waiting[1]) == [waiting[1]]
    assert watcher.transitions == [("PENDING", "APPROVED")]


async def test_one_approval_is_waited_for_whether_it_is_decided_yet_or_not(
    approvals: Approvals, incidents: Incidents
) -> None:
    approval_id = (await approvals.proposed(await incidents.opened_id())).approval_id
    for expected in (State.STATE_PENDING, State.STATE_REJECTED):
        watcher = await watching(approvals, approval_id=approval_id, include_existing=True)
        assert [each.approval.state for each in watcher.responses if each.HasField("approval")] == [expected]
        if expected == State.STATE_PENDING:
            await approvals.reject(approval_id)
            assert (await watcher.change()).approval.state == State.STATE_REJECTED


async def test_a_change_that_commits_late_neither_delays_others_nor_is_lost(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    """Neither the sequence numbers nor the transaction ids are the order of commits."""
    incident_id = await incidents.opened_id()
    late, first, second = [(await approvals.proposed(incident_id)).approval_id for _ in range(3)]
    watcher = await watching(approvals, incident_id=incident_id)
    given = watcher.token
    slow = await asyncpg.connect(approval_service.database_url)
    try:
        async with slow.transaction():
            await slow.execute("UPDATE approvals SET version = version + 1 WHERE approval_id = $1", late)
            await approvals.reject(first)
            assert await watcher.until_change_of(first) == [first]
            middle = watcher.token
            await approvals.reject(second)
            assert await watcher.until_change_of(second) == [first, second]
    finally:
        await slow.close()
    assert await watcher.until_change_of(late) == [first, second, late]
    resumed = await watching(approvals, incident_id=incident_id, resume_token=middle)
    while len(resumed.changes) < 2:
        await resumed.change()
    assert {each.approval.approval_id for each in resumed.changes} == {second, late}
    resumed = await watching(approvals, incident_id=incident_id, resume_token=given)
    while len(resumed.changes) < 3:
        await resumed.change()
    assert {each.approval.approval_id for each in resumed.changes} == {first, second, late}


async def test_what_a_process_of_an_older_version_writes_is_a_change_and_a_heartbeat_is_none(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    """It knows nothing of Watch; side by side with this one it serves the same database."""
    approval = await approvals.proposed(await incidents.opened_id())
    watcher = await watching(approvals, approval_id=approval.approval_id)
    url = approval_service.database_url
    change = "UPDATE approvals SET {} WHERE approval_id = $1"
    await rows(url, change.format("execution_lease_until = now()"), approval.approval_id)
    await rows(url, change.format("state = 'CANCELLED', version = version + 1"), approval.approval_id)
    await watcher.change()
    assert watcher.transitions == [("PENDING", "CANCELLED")]
