"""Resume tokens of Watch: what they are bound to, and what ends their validity."""

import asyncio
from datetime import timedelta

import grpc
import pytest

from approval.lifecycle.retention import Retention
from awoooi.client import ApprovalClient
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from servicekit.retention import remove_batch
from tests.approval.conftest import AT_REST
from tests.approval.integration.watch.watching import watching
from tests.approval.schemas import rows
from tests.callers import Approvals, Incidents, approvals_at
from tests.eventually import eventually
from tests.killed_service import killed_service
from tests.rpc_errors import refused
from tests.services import TIMEOUT_SECONDS, RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_token_is_bound_to_its_filters(approvals: Approvals, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id()
    given = (await watching(approvals, incident_id=incident_id)).token
    for fields in (
        {"resume_token": given},
        {"incident_id": incident_id, "states": ["PENDING"], "resume_token": given},
        {"incident_id": incident_id, "resume_token": "forged"},
    ):
        refusal = await refused(watching(approvals, **fields))
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("resume_token",))
    await watching(approvals, incident_id=incident_id, resume_token=given, include_existing=True)


async def test_a_token_from_after_the_backup_is_refused_also_when_the_database_has_caught_up(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval = await approvals.proposed(await incidents.opened_id())
    watcher = await watching(approvals, approval_id=approval.approval_id)
    await approvals.reject(approval.approval_id)
    await watcher.change()
    given = watcher.token
    # What a restore does to the change that the token has seen.
    await rows(
        approval_service.database_url,
        "DELETE FROM approval_changes WHERE approval_id = $1 AND state_after = 'REJECTED'",
        approval.approval_id,
    )
    refusal = await refused(watching(approvals, approval_id=approval.approval_id, resume_token=given))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_TOKEN_AHEAD")


async def test_a_token_whose_last_change_was_removed_by_retention_is_taken(
    database: str, incident_service: RunningService, incidents: Incidents
) -> None:
    variables = {"APPROVAL_INCIDENT_TARGET": incident_service.address, **AT_REST}
    async with (
        healthy_service("approval", database, variables=variables) as service,
        approvals_at(service.address) as approvals,
    ):
        kept, removed = [await approvals.proposed(await incidents.opened_id()) for _ in range(2)]
        watcher = await watching(approvals)
        await approvals.reject(removed.approval_id)
        await watcher.change()
        waiting = "SELECT FROM outbox WHERE state = 'PENDING'"
        await eventually(lambda: rows(database, waiting), lambda found: not found)
        engine = create_engine(database, application_name="tests", pool_size=1)
        try:
            mine = Retention(keep=timedelta(0), keep_finished=timedelta(0))
            removal = await remove_batch(Transactions(engine, Outbox()), mine.remove_next)
        finally:
            await engine.dispose()
        assert removal.removed == 1
        assert not await rows(
            database, "SELECT FROM approval_changes WHERE approval_id = $1", removed.approval_id
        )
        resumed = await watching(approvals, resume_token=watcher.token)
        await approvals.reject(kept.approval_id)
        assert await resumed.until_change_of(kept.approval_id) == [kept.approval_id]


async def test_a_moved_database_begins_another_epoch_and_its_old_changes_do_not_come(
    database: str, incident_service: RunningService, incidents: Incidents
) -> None:
    variables = {"APPROVAL_INCIDENT_TARGET": incident_service.address, **AT_REST}
    async with (
        healthy_service("approval", database, variables=variables) as service,
        approvals_at(service.address) as approvals,
    ):
        approval = await approvals.proposed(await incidents.opened_id())
        given = (await watching(approvals)).token
    # In the cluster that the rows come from more transactions had ended, and its tables had other ids.
    await rows(database, "UPDATE approval_changes SET xact_id = xact_id + 1000000")
    await rows(database, "UPDATE watch_epoch SET table_oid = 1")
    async with (
        healthy_service("approval", database, variables=variables) as service,
        approvals_at(service.address) as approvals,
    ):
        refusal = await refused(watching(approvals, resume_token=given))
        assert refusal.reason == "RESUME_TOKEN_OF_OTHER_DATABASE"
        watcher = await watching(approvals)
        await approvals.reject(approval.approval_id)
        await watcher.change()
        assert watcher.transitions == [("PENDING", "REJECTED")]


async def test_watchers_resume_without_a_gap_when_the_service_is_killed_and_restarted(
    database: str, incident_service: RunningService, incidents: Incidents
) -> None:
    variables = {"APPROVAL_INCIDENT_TARGET": incident_service.address, **AT_REST}
    incident_id = await incidents.opened_id()
    count = 12
    async with (
        killed_service("approval", database, variables) as service,
        # A busy machine may take long to start a service.
        ApprovalClient(service.address, timeout=4 * TIMEOUT_SECONDS) as approvals,
        asyncio.TaskGroup() as tasks,
    ):
        seen: list[list[tuple[str, int]]] = [[] for _ in range(4)]
        begun = [asyncio.Event() for _ in seen]

        async def watch(number: int) -> None:
            async with approvals.watch(incident_id=incident_id, heartbeats=True) as changes:
                async for each in changes:
                    begun[number].set()
                    if each.HasField("change"):
                        seen[number].append((each.approval.approval_id, each.change.state_after))
                    if len(set(seen[number])) == 2 * count:
                        return

        async def write(number: int) -> None:
            proposed = await approvals.propose(
                incident_id,
                action="NO_ACTION: observe first",
                risk="LOW",
                auto_execute=False,
                actor=f"proposer-{number}",
            )
            await approvals.reject(proposed.approval_id, actor="approver")

        watchers = [tasks.create_task(watch(number)) for number in range(len(seen))]
        for beginning in begun:
            await beginning.wait()
        for half in (range(count // 2), range(count // 2, count)):
            writers = [tasks.create_task(write(number)) for number in half]
            await eventually(lambda: _some(seen), lambda found: found)
            await service.kill()
            await service.start()
            await asyncio.wait(writers)
        await asyncio.wait(watchers)
    states = await rows(database, "SELECT approval_id, state FROM approvals")
    assert {state for _, state in states} == {"REJECTED"}
    for each in seen:
        assert {approval_id for approval_id, _ in each} == {approval_id for approval_id, _ in states}
        for approval_id, _ in states:
            came = [state for changed, state in each if changed == approval_id]
            # At least once each, never in another order.
            assert came == sorted(came)


async def _some(seen: list[list[tuple[str, int]]]) -> bool:
    return any(seen)
