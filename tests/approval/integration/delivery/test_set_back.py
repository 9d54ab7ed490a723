"""Reconcile after a restore of the incident database: what was acknowledged is compared with what is there."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from awoooi.incident.v1 import incident_pb2
from tests.approval.conftest import AT_REST
from tests.approval.fronted import Fronted
from tests.approval.schemas import approval_database, past_triggers, rows
from tests.approval.scripted_incidents import Context, Forward, answer, pass_on, scripted_incidents
from tests.callers import Approvals, Incidents, approvals_at
from tests.eventually import eventually
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPEN = incident_pb2.Incident.STATE_OPEN
RESOLVED = incident_pb2.Incident.STATE_RESOLVED


@pytest_asyncio.fixture(loop_scope="session")
async def restored(incident_service: RunningService) -> AsyncIterator[Fronted]:
    """An approval service with a database of its own, so that its stats are the test's."""
    async with scripted_incidents(incident_service.address) as front, approval_database() as url:
        variables = {"APPROVAL_INCIDENT_TARGET": front.address, **AT_REST}
        async with (
            healthy_service("approval", url, variables=variables) as running,
            approvals_at(running.address) as found,
        ):
            yield Fronted(front, found, running)


async def set_back(service: RunningService, incident_id: str) -> None:
    """Undo an incident's resolution, as a restore of an older backup does."""
    url = service.database_url
    await past_triggers(
        url, "DELETE FROM incident_events WHERE incident_id = $1 AND type = 'RESOLVED'", incident_id
    )
    await rows(url, "DELETE FROM outbox WHERE payload ->> 'incident_id' = $1", incident_id)
    for table in ("postmortems", "dispositions", "knowledge_uses"):
        await rows(url, f"DELETE FROM {table} WHERE incident_id = $1", incident_id)  # noqa: S608 - names of this list
    await rows(
        url,
        "UPDATE incidents SET state = 'OPEN', resolve_time = NULL, resolution_type = NULL, resolution_note = '',"
        " resolved_by = '', resolution_number = 0 WHERE incident_id = $1",
        incident_id,
    )


async def lose(service: RunningService, incident_id: str) -> None:
    """Take an incident away, as a restore of a backup from before its opening does."""
    await rows(service.database_url, "DELETE FROM outbox WHERE payload ->> 'incident_id' = $1", incident_id)
    await rows(service.database_url, "DELETE FROM incidents WHERE incident_id = $1", incident_id)


async def delivered(approvals: Approvals, incidents: Incidents) -> tuple[str, str]:
    """An approval whose NO_ACTION has resolved its incident, and the incident."""
    incident_id = await incidents.opened_id()
    approval = await approvals.executed(incident_id)
    await approvals.until_delivered(approval.approval_id)
    return approval.approval_id, incident_id


async def noops(approvals: Approvals) -> tuple[int, int]:
    """The NO_ACTIONs executed and resolved, by the stats."""
    stats = (await approvals.stats()).executions
    return stats.noop_executions_total, stats.noop_resolutions_total


async def test_what_was_set_back_is_delivered_again_and_counts_as_missing_until_then(
    restored: Fronted, incidents: Incidents, incident_service: RunningService
) -> None:
    approvals = restored.approvals
    pairs = [await delivered(approvals, incidents) for _ in range(3)]
    for _, incident_id in pairs[:2]:
        await set_back(incident_service, incident_id)
    assert await noops(approvals) == (3, 3)

    planned = await approvals.reconcile(validate_only=True)
    assert (planned.queued_count, planned.compared_count, planned.comparison_complete) == (2, 3, True)
    assert set(planned.approval_ids) == {approval_id for approval_id, _ in pairs[:2]}
    assert await noops(approvals) == (3, 3)

    restored.front.behaviour = answer(grpc.StatusCode.UNAVAILABLE)
    found = await approvals.reconcile()
    assert set(found.approval_ids) == set(planned.approval_ids)
    assert (found.unknown_incident_count, found.comparison_complete) == (0, True)
    assert await noops(approvals) == (3, 1)
    restored.front.behaviour = restored.front.lookup_behaviour

    for approval_id, incident_id in pairs:
        await approvals.until_delivered(approval_id)
        incident = await incidents.get(incident_id)
        assert (incident.state, incident.resolution_number) == (RESOLVED, 1)
    assert await noops(approvals) == (3, 3)
    assert (await approvals.reconcile()).queued_count == 0


async def test_an_incident_that_a_person_reopened_stays_open(restored: Fronted, incidents: Incidents) -> None:
    approvals = restored.approvals
    approval_id, incident_id = await delivered(approvals, incidents)
    reopened = await incidents.reopen(incident_id, reason="it is back")
    before = await approvals.get(approval_id)
    found = await approvals.reconcile()
    assert (found.queued_count, found.compared_count) == (0, 1)
    assert await incidents.get(incident_id) == reopened
    assert await approvals.get(approval_id) == before


async def test_an_incident_that_a_person_reopened_stays_open_when_its_opening_is_not_known(
    restored: Fronted, incidents: Incidents
) -> None:
    approvals = restored.approvals
    approval_id, incident_id = await delivered(approvals, incidents)
    await rows(restored.service.database_url, "UPDATE approvals SET incident_opening = 0")
    reopened = await incidents.reopen(incident_id, reason="it is back")
    assert (await approvals.reconcile()).queued_count == 0
    assert await incidents.get(incident_id) == reopened
    assert (await approvals.get(approval_id)).HasField("incident_resolve_time")


async def test_what_an_older_system_acknowledged_is_not_delivered(
    restored: Fronted, incidents: Incidents, incident_service: RunningService
) -> None:
    approvals = restored.approvals
    approval_id, incident_id = await delivered(approvals, incidents)
    await rows(
        restored.service.database_url,
        "INSERT INTO imported_rows (row_id, content_hash) VALUES ($1, '')",
        approval_id,
    )
    await set_back(incident_service, incident_id)
    assert (await approvals.reconcile()).queued_count == 0
    assert (await incidents.get(incident_id)).state == OPEN


async def test_approvals_of_unknown_incidents_are_listed_and_counted_and_accepted_as_lost(
    restored: Fronted, incidents: Incidents, incident_service: RunningService
) -> None:
    approvals = restored.approvals
    _, kept = await delivered(approvals, incidents)
    lost = await incidents.opened_id()
    pending = await approvals.proposed(lost)
    rejected = (await approvals.reject((await approvals.proposed(lost)).approval_id)).approval_id
    executed = (await approvals.executed(lost)).approval_id
    await approvals.until_delivered(executed)
    await lose(incident_service, lost)

    planned = await approvals.reconcile(validate_only=True)
    assert set(planned.unknown_incident_approval_ids) == {pending.approval_id, executed}
    assert (await approvals.stats()).approvals.incident_unknown == 0
    for _ in range(2):
        found = await approvals.reconcile()
        assert (found.queued_count, found.unknown_incident_count) == (0, 2)
        assert list(found.unknown_incident_approval_ids) == [pending.approval_id, executed]
    assert (await approvals.stats()).approvals.incident_unknown == 2
    # The stats do not match 1:1 while a resolution is lost.
    assert await noops(approvals) == (2, 1)
    listed = [each.approval_id async for each in approvals.list(incident_unknown=True)]
    assert listed == [executed, pending.approval_id]
    marked = await approvals.get(pending.approval_id)
    assert marked.HasField("incident_unknown_time")
    assert marked.etag != pending.etag
    assert not (await approvals.get(rejected)).HasField("incident_unknown_time")

    accepted = await approvals.reconcile(accept_unknown_incidents=True, actor="carol")
    assert accepted.unknown_incident_count == 2
    assert (await approvals.get(executed)).incident_unknown_accepted_by == "carol"
    assert (await approvals.stats()).approvals.incident_unknown == 0
    assert await noops(approvals) == (2, 2)
    assert not [each async for each in approvals.list(incident_unknown=True)]
    after = await approvals.reconcile()
    assert (after.unknown_incident_count, after.queued_count) == (0, 0)
    assert (await incidents.get(kept)).state == RESOLVED


async def test_an_incident_that_is_there_again_is_resolved_and_no_longer_unknown(
    restored: Fronted, incidents: Incidents, incident_service: RunningService
) -> None:
    approvals = restored.approvals
    approval_id, incident_id = await delivered(approvals, incidents)
    accepted_id, accepted_incident = await delivered(approvals, incidents)
    await lose(incident_service, accepted_incident)
    await approvals.reconcile(accept_unknown_incidents=True)
    await lose(incident_service, incident_id)
    await approvals.reconcile()
    assert await noops(approvals) == (2, 1)
    for each in (incident_id, accepted_incident):
        await incidents.opened(incident_id=each)
    assert set((await approvals.reconcile()).approval_ids) == {approval_id, accepted_id}
    for each in (approval_id, accepted_id):
        approval = await approvals.until_delivered(each)
        assert not approval.HasField("incident_unknown_time")
        assert approval.incident_unknown_accepted_by == ""
    assert [(await incidents.get(each)).state for each in (incident_id, accepted_incident)] == [RESOLVED] * 2
    assert await noops(approvals) == (2, 2)


async def test_a_pending_approval_of_an_incident_that_is_there_again_is_no_longer_unknown(
    restored: Fronted, incidents: Incidents, incident_service: RunningService
) -> None:
    approvals = restored.approvals
    incident_id = await incidents.opened_id()
    approval_id = (await approvals.proposed(incident_id)).approval_id
    await lose(incident_service, incident_id)
    await approvals.reconcile()
    assert (await approvals.get(approval_id)).HasField("incident_unknown_time")
    await incidents.opened(incident_id=incident_id)
    found = await approvals.reconcile()
    assert (found.queued_count, found.unknown_incident_count) == (0, 0)
    assert not (await approvals.get(approval_id)).HasField("incident_unknown_time")
    assert (await approvals.stats()).approvals.incident_unknown == 0


async def test_an_incident_that_retention_removed_is_not_unknown(
    restored: Fronted, incidents: Incidents, incident_service: RunningService
) -> None:
    approvals = restored.approvals
    _, incident_id = await delivered(approvals, incidents)
    await lose(incident_service, incident_id)
    await rows(
        incident_service.database_url,
        "INSERT INTO removed_incidents (incident_id, openings) VALUES ($1, 1)",
        incident_id,
    )
    found = await approvals.reconcile()
    assert (found.unknown_incident_count, found.queued_count, found.compared_count) == (0, 0, 1)
    assert await noops(approvals) == (1, 1)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED])
async def test_without_an_answer_of_the_incident_service_nothing_is_withdrawn_and_the_rest_is_done(
    restored: Fronted, incidents: Incidents, incident_service: RunningService, code: grpc.StatusCode
) -> None:
    approvals = restored.approvals
    _, incident_id = await delivered(approvals, incidents)
    await set_back(incident_service, incident_id)
    missing_id, _ = await delivered(approvals, incidents)
    url = restored.service.database_url
    await rows(url, "DELETE FROM outbox WHERE dedup_key = $1", missing_id)
    await rows(url, "UPDATE approvals SET incident_resolve_time = NULL WHERE approval_id = $1", missing_id)
    restored.front.lookup_behaviour = answer(code)
    for validate_only in (True, False):
        found = await approvals.reconcile(validate_only=validate_only)
        assert list(found.approval_ids) == [missing_id]
        assert (found.comparison_complete, found.compared_count) == (False, 0)


async def test_an_approval_that_changes_while_it_is_compared_is_left_to_the_next_comparison(
    restored: Fronted, incidents: Incidents, incident_service: RunningService
) -> None:
    approvals = restored.approvals
    (changed, incident_id), (_, lost) = [await delivered(approvals, incidents) for _ in range(2)]
    await set_back(incident_service, incident_id)
    await lose(incident_service, lost)

    async def change_meanwhile(forward: Forward, context: Context) -> Any:
        await rows(restored.service.database_url, "UPDATE approvals SET version = version + 1")
        return await pass_on(forward, context)

    restored.front.lookup_behaviour = change_meanwhile
    found = await approvals.reconcile()
    assert (found.queued_count, found.unknown_incident_count, found.comparison_complete) == (0, 0, True)
    assert await noops(approvals) == (2, 2)
    restored.front.lookup_behaviour = pass_on
    found = await approvals.reconcile()
    assert (list(found.approval_ids), found.unknown_incident_count) == ([changed], 1)


async def test_concurrent_reconciliations_withdraw_and_count_once(
    restored: Fronted, incidents: Incidents, incident_service: RunningService
) -> None:
    approvals = restored.approvals
    pairs = [await delivered(approvals, incidents) for _ in range(6)]
    for number, (_, incident_id) in enumerate(pairs):
        await (set_back, lose)[number % 2](incident_service, incident_id)
    found = await asyncio.gather(*(approvals.reconcile() for _ in range(5)))
    assert sum(each.queued_count for each in found) == 3
    for approval_id, _ in pairs[::2]:
        await approvals.until_delivered(approval_id)
    assert await noops(approvals) == (6, 3)
    accepted = await asyncio.gather(*(approvals.reconcile(accept_unknown_incidents=True) for _ in range(5)))
    assert max(each.unknown_incident_count for each in accepted) == 3
    assert await noops(approvals) == (6, 6)


async def test_what_was_set_back_is_delivered_again_by_the_periodic_reconciliation(
    restless: Approvals, incidents: Incidents, incident_service: RunningService
) -> None:
    approval_id, incident_id = await delivered(restless, incidents)
    await set_back(incident_service, incident_id)

    async def is_resolved() -> Any:
        return (await incidents.get(incident_id)).state == RESOLVED

    await eventually(is_resolved)
    _, lost = await delivered(restless, incidents)
    await lose(incident_service, lost)
    await eventually(restless.stats, lambda stats: stats.approvals.incident_unknown == 1)
    assert (await restless.until_delivered(approval_id)).incident_id == incident_id
