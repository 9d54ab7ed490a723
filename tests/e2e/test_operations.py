"""Backup and restore as docs/operations.md describes them: its commands, and what is true afterwards."""

import asyncio
import json
import re
import shlex
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from awoooi.client.errors import AbortedError, CallError, NotFoundError
from awoooi.incident.v1 import incident_pb2
from flywheel.postgres.binaries import find_binaries
from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.postgres.identity import choose_identity
from tests.approval.schemas import rows
from tests.callers import Approvals, Incidents, State, approvals_at, incidents_at
from tests.dumps import own_cluster
from tests.e2e.documented import OPERATIONS, blocks, call, run
from tests.eventually import eventually
from tests.services import RunningService, healthy_service
from tests.tcp_proxy import tcp_proxy

pytestmark = pytest.mark.slow

OPEN = incident_pb2.Incident.STATE_OPEN
RESOLVED = incident_pb2.Incident.STATE_RESOLVED
Type = incident_pb2.IncidentEvent


@dataclass
class Loop:
    """Both services over two databases."""

    incidents: Incidents
    approvals: Approvals
    approval_service: RunningService

    async def delivered(self, incident_id: str, *, actor: str = "approver") -> str:
        """Resolve an incident by a NO_ACTION that this actor approves; returns the approval's id."""
        proposed = await self.approvals.proposed(incident_id)
        await self.approvals.approve(proposed.approval_id, actor=actor)
        await self.approvals.execute(proposed.approval_id)
        await self.approvals.until_delivered(proposed.approval_id)
        return proposed.approval_id

    async def noops(self) -> tuple[int, int]:
        """The NO_ACTIONs executed and resolved, by the stats."""
        stats = (await self.approvals.stats()).executions
        return stats.noop_executions_total, stats.noop_resolutions_total

    async def settled(self) -> None:
        """Return when no entry is on its way to a timeline."""
        waiting = "SELECT FROM outbox WHERE state = 'PENDING'"
        await eventually(lambda: rows(self.approval_service.database_url, waiting), lambda found: not found)

    async def parked(self) -> int:
        """The number of parked jobs of the approval service, of every topic."""
        return len(
            await rows(self.approval_service.database_url, "SELECT FROM outbox WHERE state = 'PARKED'")
        )


@asynccontextmanager
async def loop(incident_url: str, approval_url: str) -> AsyncIterator[Loop]:
    """Both services, until the block ends. Nothing reconciles by itself."""
    async with (
        tcp_proxy() as network,
        healthy_service("incident", incident_url) as incident,
        healthy_service(
            "approval",
            approval_url,
            variables={"APPROVAL_INCIDENT_TARGET": network.address, "APPROVAL_RECONCILE_EVERY": "24h"},
        ) as approval,
        incidents_at(incident.address) as incidents,
        approvals_at(approval.address) as approvals,
    ):
        network.target = incident.address
        yield Loop(incidents, approvals, approval)


async def with_databases(server: EmbeddedPostgres) -> tuple[str, str]:
    """The URLs of two new databases."""
    for name in ("incident", "approval"):
        await asyncio.to_thread(server.create_database, name)
    return server.url("incident"), server.url("approval")


def readable_by_others(folder: Path) -> list[str]:
    """The backups in a folder that the group or others may read."""
    modes = {each.name: each.stat().st_mode for each in folder.iterdir() if each.suffix in {".dump", ".list"}}
    assert len(modes) == 4
    return [name for name, mode in modes.items() if mode & 0o077]


def test_every_command_of_the_document_is_run_here() -> None:
    count = {
        title: len(blocks(title, "bash")) + len(blocks(title, "sh"))
        for title in ("Back up", "Restore", "Point-in-time recovery", "Move to another cluster")
    }
    assert sum(count.values()) == len(re.findall(r"^```(?:ba)?sh$", OPERATIONS, re.MULTILINE))
    assert count == {"Back up": 3, "Restore": 3, "Point-in-time recovery": 3, "Move to another cluster": 0}


async def test_the_urls_of_flywheel_up(tmp_path: Path) -> None:
    # The folder of the databases is that of flywheel.stack.stack.
    async with own_cluster(tmp_path / ".flywheel" / "postgres") as server:
        await with_databases(server)
        ask = " && ".join(
            f'psql --no-psqlrc -Atc "SELECT current_database()" --dbname="${name}"'
            for name in ("INCIDENT_DATABASE_URL", "APPROVAL_DATABASE_URL", "SERVER_URL")
        )
        (export,) = blocks("Back up", "sh")
        printed = await run(f"cd {shlex.quote(str(tmp_path))}\n{export}\n{ask}", {})
    assert printed.split() == ["incident", "approval", "postgres"]


async def test_a_restored_incident_database_is_brought_in_line(tmp_path: Path) -> None:
    async with own_cluster(tmp_path / "old") as old, own_cluster(tmp_path / "new") as new:
        incident_url, approval_url = await with_databases(old)
        async with loop(incident_url, approval_url) as before:
            kept = await before.incidents.opened_id()
            await before.delivered(kept)
            reopened = await before.incidents.opened_id()
            await before.delivered(reopened)
            await before.incidents.reopen(reopened, reason="it is back")
            set_back = [await before.incidents.opened_id() for _ in range(3)]

            backups: dict[str, str | Path] = {
                "BACKUPS": tmp_path,
                "INCIDENT_DATABASE_URL": incident_url,
                "APPROVAL_DATABASE_URL": approval_url,
            }
            for block in blocks("Back up", "bash"):
                await run(block, backups)
            assert readable_by_others(tmp_path) == []

            for incident_id in set_back:
                await before.delivered(incident_id)
            unknown = [await before.delivered(await before.incidents.opened_id()) for _ in range(2)]
            token = before.incidents.watch(heartbeats=True)
            await anext(token)
            await before.settled()
            assert await before.noops() == (7, 7)

        restored_url = new.url("incident_restored")
        await run(
            blocks("Restore", "bash")[0],
            {
                "SERVER_URL": new.url("postgres"),
                "RESTORED_INCIDENT_DATABASE_URL": restored_url,
                "BACKUPS": tmp_path,
            },
        )
        async with loop(restored_url, approval_url) as after:
            assert [(await after.incidents.get(each)).state for each in set_back] == [OPEN] * 3
            (reconcile,) = blocks("Restore", "sh")
            planned, _, done = (await call(reconcile, approval=after.approval_service.address)).partition(
                "}\n"
            )
            for printed in (f"{planned}}}", done):
                found = json.loads(printed)
                assert (found["queuedCount"], found["unknownIncidentCount"]) == (3, 2)
                assert set(found["unknownIncidentApprovalIds"]) == set(unknown)
                assert found["comparisonComplete"]
            await after.settled()
            for incident_id in (kept, *set_back):
                incident = await after.incidents.get(incident_id)
                assert (incident.state, incident.resolution_number) == (RESOLVED, 1)
            for incident_id in set_back:
                # What the approval service knows of them is on the timelines again.
                assert {"PROPOSED", "APPROVED", "EXECUTED"} <= set(
                    await after.incidents.event_types(incident_id)
                )
            assert (await after.incidents.get(reopened)).state == OPEN
            # The two that are lost: neither resolved nor forgotten, and nothing is parked.
            assert await after.noops() == (7, 5)
            assert (await after.approvals.stats()).approvals.incident_unknown == 2
            assert await after.parked() == 0
            with pytest.raises(CallError) as refused:
                await anext(after.incidents.watch(resume_token=token.resume_token))
            assert refused.value.reason == "RESUME_TOKEN_OF_OTHER_DATABASE"


async def test_after_a_restore_of_the_approval_database_each_decision_is_the_one_of_who_made_it(
    tmp_path: Path,
) -> None:
    async with own_cluster(tmp_path / "server") as server:
        incident_url, approval_url = await with_databases(server)
        async with loop(incident_url, approval_url) as before:
            executed_incident, decided_incident, lost_incident = [
                await before.incidents.opened_id() for _ in range(3)
            ]
            executed = (await before.approvals.proposed(executed_incident)).approval_id
            decided = (await before.approvals.proposed(decided_incident, required_approvals=1)).approval_id
            quorum = await before.approvals.proposed(decided_incident, required_approvals=3)
            await before.settled()
            await run(
                blocks("Back up", "bash")[0],
                {
                    "BACKUPS": tmp_path,
                    "INCIDENT_DATABASE_URL": incident_url,
                    "APPROVAL_DATABASE_URL": approval_url,
                },
            )
            await before.approvals.approve(executed, actor="alice")
            await before.approvals.execute(executed)
            await before.approvals.until_delivered(executed)
            await before.approvals.approve(decided, reason="alice says yes", actor="alice")
            seen = await before.approvals.approve(quorum.approval_id, actor="alice")
            lost = await before.delivered(lost_incident, actor="alice")
            await before.settled()

        restored_url = server.url("approval_restored")
        await run(
            blocks("Restore", "bash")[1],
            {
                "SERVER_URL": server.url("postgres"),
                "RESTORED_APPROVAL_DATABASE_URL": restored_url,
                "BACKUPS": tmp_path,
            },
        )
        async with loop(incident_url, restored_url) as after:
            with pytest.raises(NotFoundError):
                await after.approvals.get(lost)
            for approval_id in (executed, decided):
                assert (await after.approvals.get(approval_id)).state == State.STATE_PENDING
            # Bob has read an approval with Alice's decision; now it has Carol's in its place.
            await after.approvals.approve(quorum.approval_id, actor="carol")
            with pytest.raises(AbortedError):
                await after.approvals.approve(quorum.approval_id, actor="bob", etag=seen.etag)
            # Bob decides otherwise, and once as Alice did: both are on record, each as who decided.
            await after.approvals.reject(decided, reason="bob says no", actor="bob")
            await after.approvals.approve(executed, actor="bob")
            again = (await after.approvals.execute(executed)).approval
            assert again.state == State.STATE_SUCCEEDED
            await after.approvals.until_delivered(executed)
            await after.settled()
            assert await after.parked() == 0
            events = await after.incidents.events(decided_incident)
            said = [(event.type, event.summary) for event in events if "says" in event.summary]
            assert said == [(Type.TYPE_APPROVED, "alice says yes"), (Type.TYPE_REJECTED, "bob says no")]
            approved = await after.incidents.events(executed_incident, Type.TYPE_APPROVED)
            assert [event.attributes["approved_by"] for event in approved] == ["alice", "bob"]
            # Executed twice, resolved once.
            incident = await after.incidents.get(executed_incident)
            assert (incident.state, incident.resolution_number) == (RESOLVED, 1)
            assert (await after.incidents.get(lost_incident)).state == RESOLVED
            assert (await after.approvals.reconcile()).queued_count == 0


async def test_point_in_time_recovery_sets_both_databases_back_to_one_moment(tmp_path: Path) -> None:
    archive, base, recovered = (tmp_path / name for name in ("archive", "base", "recovered"))
    archive.mkdir(mode=0o777)
    archive.chmod(0o777)
    variables: dict[str, str | Path] = {"ARCHIVE": archive, "BASE_BACKUP": base, "RECOVERED": recovered}
    switch_on, take, recover = blocks("Point-in-time recovery", "bash")
    async with own_cluster(tmp_path / "server") as server:
        variables["SERVER_URL"] = server.url("postgres")
        await run(switch_on, variables)
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        incident_url, approval_url = await with_databases(server)
        async with loop(incident_url, approval_url) as before:
            await run(take, variables)
            kept = await before.incidents.opened_id()
            approval_id = await before.delivered(kept)
            await before.settled()
            connection = await asyncpg.connect(incident_url)
            try:
                variables["TARGET_TIME"] = await connection.fetchval("SELECT clock_timestamp()::text")
                lost = await before.incidents.opened_id()
                await before.delivered(lost)
                watch = before.incidents.watch(heartbeats=True)
                await anext(watch)
                await connection.execute("SELECT pg_switch_wal()")
            finally:
                await connection.close()
    await run(recover, variables)
    _own(recovered)
    async with own_cluster(recovered) as server:
        await eventually(
            lambda: rows(server.url("incident"), "SELECT pg_is_in_recovery()"), lambda found: not found[0][0]
        )
        async with loop(server.url("incident"), server.url("approval")) as after:
            found = await after.approvals.reconcile()
            assert (found.queued_count, found.unknown_incident_count, found.compared_count) == (0, 0, 1)
            assert (await after.incidents.get(kept)).state == RESOLVED
            assert (await after.approvals.get(approval_id)).HasField("incident_resolve_time")
            with pytest.raises(NotFoundError):
                await after.incidents.get(lost)
            # Ids and sequence numbers of what was lost are given again: a watcher that saw it cannot go on.
            for _ in range(20):
                await after.incidents.opened_id()
            with pytest.raises(CallError) as refused:
                await anext(after.incidents.watch(resume_token=watch.resume_token))
            assert refused.value.reason == "RESUME_TOKEN_AHEAD"


def _own(directory: Path) -> None:
    """Make the user that PostgreSQL runs as here the owner of a folder that was copied by another."""
    identity = choose_identity(find_binaries(), directory.with_name("new"))
    for path in (directory, *directory.rglob("*")):
        identity.chown(path)
    shutil.rmtree(directory.with_name("new"), ignore_errors=True)
