"""Watch: existing incidents before the first change."""

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.incident.incidents import incident_stub, new_id, opened, token
from tests.incident.integration.watch.watching import Watcher, note, type_name, watching
from tests.services import RunningService

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub


async def test_existing_incidents_come_once_each_then_every_change_without_a_gap(
    stub: "IncidentServiceAsyncStub", service: RunningService, rows: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    labels = {"test": token()}
    await _insert_incidents(rows, labels["test"], 1200)
    stop = asyncio.Event()

    async def keep_writing() -> None:
        while not stop.is_set():
            incident = await opened(stub, labels=labels)
            await stub.StartInvestigation(pb.StartInvestigationRequest(incident_id=incident.incident_id))

    async with incident_stub(service.address) as watch_stub, asyncio.TaskGroup() as tasks:
        writers = [tasks.create_task(keep_writing()) for _ in range(3)]
        watcher = Watcher(watch_stub.Watch(pb.WatchRequest(labels=labels, include_existing=True)))
        while not (await watcher.read()).resume_token:
            pass
        existing = [response.incident.incident_id for response in watcher.responses[:-1]]
        assert len(existing) == len(set(existing)) >= 1200
        await watcher.change()
        stop.set()
        await asyncio.wait(writers)
        last = token()
        await note(stub, existing[0], last)
        await watcher.until_event(last)

    known: dict[str, int] = {}
    for response in watcher.responses:
        if response.HasField("incident"):
            incident = response.incident
            known[incident.incident_id] = max(known.get(incident.incident_id, 0), int(incident.etag))
    versions = await rows.fetch(
        "SELECT incident_id, version FROM incidents WHERE labels ->> 'test' = $1", labels["test"]
    )
    assert known == {row["incident_id"]: row["version"] for row in versions}


async def _insert_incidents(rows: "asyncpg.Connection[asyncpg.Record]", test: str, number: int) -> None:
    await rows.execute(
        """
        INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by,
            content_hash)
        SELECT incident_id, 'one of many', '', 'HIGH', 'OPEN', '', jsonb_build_object('test', $1::text), '', 'tester', ''
        FROM unnest($2::text[]) AS new (incident_id)
        """,
        test,
        [new_id() for _ in range(number)],
    )


@pytest.mark.parametrize(
    ("fields", "comes"),
    [
        pytest.param({}, True, id="no other filter"),
        pytest.param({"states": ["STATE_OPEN"]}, True, id="its state"),
        pytest.param({"states": ["STATE_RESOLVED"]}, False, id="another state"),
        pytest.param({"severities": ["SEVERITY_HIGH"]}, True, id="its severity"),
        pytest.param({"severities": ["SEVERITY_LOW"]}, False, id="another severity"),
    ],
)
@pytest.mark.parametrize("by_id", [pytest.param(True, id="by id"), pytest.param(False, id="by label")])
async def test_an_existing_incident_comes_when_it_matches_now(
    stub: "IncidentServiceAsyncStub", fields: dict[str, list[str]], by_id: bool, comes: bool
) -> None:
    labels = {"test": token()}
    incident = await opened(stub, labels=labels)
    narrow = {"incident_id": incident.incident_id} if by_id else {"labels": labels}
    watcher = await watching(stub, include_existing=True, **fields, **narrow)
    assert [response.incident for response in watcher.responses[:-1]] == ([incident] if comes else [])
    assert all(not response.resume_token for response in watcher.responses[:-1])


async def test_missed_changes_of_incidents_removed_by_retention_are_skipped(
    stub: "IncidentServiceAsyncStub", rows: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    labels = {"test": token()}
    start = await watching(stub, labels=labels)
    removed, kept = await opened(stub, labels=labels), await opened(stub, labels=labels)
    await rows.execute("DELETE FROM incidents WHERE incident_id = $1", removed.incident_id)
    resumed = await watching(stub, labels=labels, resume_token=start.token)
    assert (await resumed.change()).incident == kept
    assert [type_name(change.event) for change in resumed.changes] == ["OPENED"]
