"""A resolve brings what its approval did: the timeline is complete before the resolution, and so is the postmortem."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from approval.importing.importer import ApprovalImporter
from awoooi.client import NotFoundError
from awoooi.incident.v1 import incident_pb2
from tests.approval.hooks import WITHOUT_LIMITS, Hooked, hook_variables, hooked_service
from tests.approval.schemas import approval_database, rows
from tests.approval.scripted_incidents import ScriptedIncidents, answer, pass_on, scripted_incidents
from tests.callers import NO_ACTION, Incidents
from tests.eventually import eventually
from tests.imports import approval as approval_line
from tests.imports import approval_id as imported_id
from tests.imports import imported, write_lines
from tests.receiver import receiver
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNAVAILABLE = answer(grpc.StatusCode.UNAVAILABLE)
WHOLE = ["OPENED", "PROPOSED", "APPROVED", "EXECUTED", "RESOLVED"]
TRIED = ["PROPOSED", "APPROVED", "EXECUTED"]


@dataclass(frozen=True)
class World:
    """An approval service with hooks, in front of an incident service that does not take what is added to timelines."""

    front: ScriptedIncidents
    hooked: Hooked
    incidents: Incidents

    async def until_complete(self, incidents_of: Mapping[str, str]) -> None:
        """Check the postmortem and the timeline of the incident of each approval, then deliver the entries themselves.

        They are there already. Only then: an entry that arrives before its resolve has its place by that.
        """
        for approval_id, incident_id in incidents_of.items():
            await self.hooked.approvals.until_delivered(approval_id)
            assert await self._tried(incident_id) == TRIED
            assert await self._whole(incident_id) == WHOLE
        self.front.timeline_behaviour = pass_on
        url = self.hooked.service.database_url
        states = "SELECT state FROM outbox WHERE topic = 'incident.timeline' AND dedup_key LIKE $1"
        for approval_id, incident_id in incidents_of.items():
            key = f"{approval_id}/%"
            ended = await eventually(
                partial(rows, url, states, key), lambda found: "PENDING" not in {state for (state,) in found}
            )
            assert {state for (state,) in ended} <= {"DONE"}
            assert await self._whole(incident_id) == WHOLE

    async def _tried(self, incident_id: str) -> list[str]:
        """The types under `What was tried` of the postmortem, once it is written."""

        async def postmortem() -> incident_pb2.Postmortem | None:
            try:
                return await self.incidents.get_postmortem(incident_id)
            except NotFoundError:
                return None

        written = await eventually(postmortem)
        assert written is not None
        section = written.markdown.split("## What was tried")[1].split("## Resolution")[0]
        entries = [line for line in section.splitlines() if line.startswith("- ")]
        return [entry.split(" UTC ")[1].split()[0] for entry in entries]

    async def _whole(self, incident_id: str) -> list[str]:
        """The types on the timeline without those of the side effects, and without the announcement of an operation."""
        types = await self.incidents.event_types(incident_id)
        return [each for each in types if not each.startswith(("EFFECT", "EXECUTION_STARTED"))]

    async def lose_resolve(self, approval_id: str) -> None:
        """Lose the delivery of a resolve, as an outbox row that was removed by hand."""
        await rows(
            self.hooked.service.database_url,
            "DELETE FROM outbox WHERE topic = 'incident.resolve' AND dedup_key = $1",
            approval_id,
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_world(
    incident_service: RunningService, incidents: Incidents, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with (
        scripted_incidents(incident_service.address) as front,
        approval_database() as url,
        receiver() as hooks,
    ):
        variables = {
            "APPROVAL_INCIDENT_TARGET": front.address,
            **hook_variables(tmp_path_factory.mktemp("hooks"), hooks),
            **WITHOUT_LIMITS,
        }
        async with hooked_service(url, hooks, variables) as hooked:
            yield World(front, hooked, incidents)


@pytest_asyncio.fixture(loop_scope="session")
async def world(shared_world: World) -> AsyncIterator[World]:
    shared_world.front.timeline_behaviour = UNAVAILABLE
    try:
        yield shared_world
    finally:
        shared_world.front.behaviour = shared_world.front.timeline_behaviour = pass_on


@pytest.mark.parametrize("kind", ["NO_ACTION", "operation"])
async def test_the_postmortem_names_what_the_resolving_approval_did_although_its_entries_arrive_later(
    world: World, kind: str
) -> None:
    incident_id = await world.incidents.opened_id()
    action = NO_ACTION if kind == "NO_ACTION" else world.hooked.new_action()
    approval = await world.hooked.approvals.executed(incident_id, action)
    await world.until_complete({approval.approval_id: incident_id})


async def test_so_does_each_postmortem_of_a_batch(world: World) -> None:
    incident_ids = [await world.incidents.opened_id() for _ in range(8)]
    world.front.behaviour = UNAVAILABLE
    # The longest texts that are accepted.
    action = "NO_ACTION: " + "觀" * 1013
    approvals = []
    for incident_id in incident_ids:
        proposed = await world.hooked.approvals.proposed(incident_id, action)
        await world.hooked.approvals.approve(proposed.approval_id, reason="x" * 8192)
        approvals.append((await world.hooked.approvals.execute(proposed.approval_id)).approval)
    world.front.behaviour = pass_on
    await world.until_complete({approval.approval_id: approval.incident_id for approval in approvals})


async def test_so_does_the_postmortem_of_a_reconciled_resolve(world: World) -> None:
    incident_id = await world.incidents.opened_id()
    approval = await world.hooked.approvals.approved(incident_id)
    world.front.behaviour = UNAVAILABLE
    await world.hooked.approvals.execute(approval.approval_id)
    await world.lose_resolve(approval.approval_id)
    world.front.behaviour = pass_on
    assert approval.approval_id in (await world.hooked.approvals.reconcile()).approval_ids
    await world.until_complete({approval.approval_id: incident_id})


async def test_so_does_the_postmortem_of_an_imported_approval(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    incident_id = await world.incidents.opened_id()
    path = write_lines(tmp_path / "lines.jsonl", approval_line(1, incident_id=incident_id))
    url = world.hooked.service.database_url
    assert (await imported(capsys, ApprovalImporter, "approval", url, path)).succeeded
    await world.hooked.approvals.reconcile()
    await world.until_complete({imported_id(1): incident_id})
