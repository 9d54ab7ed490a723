"""An upgrade as docs/upgrades.md has it, and the way back, under traffic: nothing fails, nothing is lost or done twice."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import grpc.aio
import pytest

from awoooi.approval.v1 import approval_pb2
from awoooi.client import ApprovalClient, IncidentClient, StatsClient
from awoooi.incident.v1 import incident_pb2
from tests.approval.schemas import migrate_approval
from tests.databases import empty_database
from tests.e2e.previous_version import ROOT, SERVICES, PreviousVersion, newest_revision, unpack
from tests.e2e.protected_stack import free_address
from tests.eventually import eventually
from tests.migrated import migrate_incident
from tests.services import TIMEOUT_SECONDS, RunningService, ServiceProcess, serving

RESOLVED = incident_pb2.Incident.STATE_RESOLVED


@dataclass
class Place:
    """Two databases, and the addresses at which a version serves them."""

    urls: Mapping[str, str]
    # By version, old and new, and by service.
    addresses: Mapping[str, Mapping[str, str]]
    running: dict[tuple[str, str], ServiceProcess] = field(default_factory=dict)

    def target(self, service: str) -> str:
        """Both versions of a service, in turn."""
        return f"ipv4:{','.join(each[service] for each in self.addresses.values())}"

    def variables(self, version: str, service: str) -> dict[str, str]:
        """The settings of one process."""
        own = {"INCIDENT_STUCK_AFTER": "1h"}
        if service == "approval":
            own = {"APPROVAL_INCIDENT_TARGET": self.target("incident"), "APPROVAL_EXECUTORS": "dry-run"}
        return {
            f"{service.upper()}_DATABASE_URL": self.urls[service],
            f"{service.upper()}_LISTEN": self.addresses[version][service],
            **own,
        }

    async def start_old(self, previous: PreviousVersion) -> None:
        """Migrate with the version before, start it, and return when it is healthy."""

        async def start(service: str) -> None:
            variables = {**self.variables("old", service), **previous.variables}
            self.running["old", service] = await asyncio.to_thread(
                ServiceProcess, service, ["serve", "--migrate"], variables
            )
            await self.healthy("old", service)
            # It is that version that runs.
            assert await self.revision(service) == previous.database_revision(service)

        await asyncio.gather(*map(start, SERVICES))

    async def start_new(self) -> None:
        """Start this version and return when it is healthy."""
        for service in SERVICES:
            variables = self.variables("new", service)
            self.running["new", service] = await asyncio.to_thread(
                RunningService, service, self.urls[service], variables=variables
            )
            await self.healthy("new", service)

    async def migrate(self) -> None:
        """Migrate with this version."""
        await migrate_incident(self.urls["incident"])
        await migrate_approval(self.urls["approval"])
        for service in SERVICES:
            assert await self.revision(service) == newest_revision(ROOT, service)

    async def healthy(self, version: str, service: str) -> None:
        """Return when a process is healthy."""
        async with grpc.aio.insecure_channel(self.addresses[version][service]) as channel:
            await serving(channel)

    async def stop(self, version: str) -> None:
        """Stop a version of both services, the callers first."""
        for service in reversed(SERVICES):
            process = self.running.pop((version, service))
            process.send(signal.SIGTERM)
            assert await process.ended() == 0

    async def revision(self, service: str) -> str:
        """The revision of a service's database."""
        connection = await asyncpg.connect(self.urls[service])
        try:
            found: str = await connection.fetchval("SELECT version_num FROM alembic_version")
            return found
        finally:
            await connection.close()


class Traffic:
    """Heals one incident after the other through the version that answers; every failure is raised at the end."""

    def __init__(self, place: Place) -> None:
        self._incidents = IncidentClient(place.target("incident"), actor="olga", timeout=TIMEOUT_SECONDS)
        self._approvals = ApprovalClient(place.target("approval"), actor="olga", timeout=TIMEOUT_SECONDS)
        self.healed: list[str] = []
        self._changed = asyncio.Condition()
        self._ends = False

    async def run(self) -> None:
        """Go on until it is ended."""
        async with self._incidents as incidents, self._approvals as approvals:
            while not self._ends:
                incident = (await incidents.create(title="api answers slowly", severity="LOW")).incident
                proposed = await approvals.propose(
                    incident.incident_id,
                    action="NO_ACTION: observe",
                    risk="LOW",
                    auto_execute=False,
                    actor="ai",
                )
                await approvals.approve(proposed.approval_id, actor="alice")
                executed = (await approvals.execute(proposed.approval_id)).approval
                assert executed.state == approval_pb2.Approval.STATE_SUCCEEDED
                async with self._changed:
                    self.healed.append(incident.incident_id)
                    self._changed.notify_all()

    async def more(self, number: int = 3) -> None:
        """Return when so many more are executed."""
        goal = len(self.healed) + number
        async with self._changed, asyncio.timeout(5 * TIMEOUT_SECONDS):
            await self._changed.wait_for(lambda: len(self.healed) >= goal)

    def end(self) -> None:
        """Let it end after the incident that it is at."""
        self._ends = True


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    addresses = {version: {service: free_address() for service in SERVICES} for version in ("old", "new")}
    async with empty_database() as incident, empty_database() as approval:
        found = Place({"incident": incident, "approval": approval}, addresses)
        try:
            yield found
        finally:
            for process in found.running.values():
                await asyncio.to_thread(process.kill)


async def _assert_healed_once(place: Place, version: str, incident_ids: list[str]) -> None:
    """By one version, however they were written: resolved, and by one RESOLVED event each."""
    async with IncidentClient(
        place.addresses[version]["incident"], actor="olga", timeout=TIMEOUT_SECONDS
    ) as incidents:
        for incident_id in incident_ids:
            await eventually(
                lambda incident_id=incident_id: incidents.get(incident_id),  # type: ignore[misc]  # its own
                lambda found: found.state == RESOLVED,
            )
            resolved = [each async for each in incidents.list_events(incident_id, types=["RESOLVED"])]
            assert len(resolved) == 1


# Two versions of two services, each started: on a busy machine that takes its time.
@pytest.mark.timeout(900)
@pytest.mark.slow
async def test_a_version_runs_beside_the_next_and_is_gone_back_to_under_traffic(tmp_path: Path) -> None:
    previous = unpack(tmp_path)
    print(f"from {previous.revision}")
    async with place() as deployed:
        await deployed.start_old(previous)
        traffic = Traffic(deployed)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(traffic.run())
            await traffic.more()
            # What is open before the upgrade.
            async with IncidentClient(deployed.addresses["old"]["incident"], actor="olga") as incidents:
                left_open = (
                    await incidents.create(title="before", severity="HIGH", fingerprint="f")
                ).incident

            await deployed.migrate()
            # The version before serves the newer schema.
            await traffic.more()
            for service in SERVICES:
                await deployed.healthy("old", service)

            await deployed.start_new()
            await traffic.more(6)
            await _assert_healed_once(deployed, "new", traffic.healed[:3])
            async with IncidentClient(deployed.addresses["new"]["incident"], actor="olga") as incidents:
                again = await incidents.create(title="before", severity="HIGH", fingerprint="f")
                assert (again.incident.incident_id, again.deduplicated) == (left_open.incident_id, True)
            newest = len(traffic.healed)

            # The way back.
            await deployed.stop("new")
            await traffic.more()
            for service in SERVICES:
                await deployed.healthy("old", service)
            await _assert_healed_once(deployed, "old", traffic.healed[newest - 3 : newest])

            # And on again.
            await deployed.start_new()
            await deployed.stop("old")
            await traffic.more()
            traffic.end()
            await running
        await _assert_healed_once(deployed, "new", traffic.healed)
        await _assert_counted(deployed, len(traffic.healed))


async def _assert_counted(place: Place, healed: int) -> None:
    """Every execution and resolution is in the stats once, whichever version it was done by."""
    async with (
        StatsClient(place.addresses["new"]["incident"], actor="olga") as incidents,
        StatsClient(place.addresses["new"]["approval"], actor="olga") as approvals,
    ):
        done = await eventually(
            approvals.get_flywheel_stats,
            lambda stats: stats.executions.noop_resolutions_total == stats.executions.noop_executions_total,
        )
        assert done.executions.noop_executions_total == healed
        found = await eventually(
            incidents.get_flywheel_stats,
            lambda stats: sum(each.count for each in stats.resolutions.resolved_total) == healed,
        )
        assert sum(each.count for each in found.incidents.opened_total) == healed + 1
