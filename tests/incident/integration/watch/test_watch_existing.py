"""Watch: existing incidents before the first change."""

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.callers import Incidents, incidents_at
from tests.incident.incidents import new_id, token, version
from tests.incident.integration.watch.watching import Watcher, note, type_name, watching
from tests.services import RunningService


async def test_existing_incidents_come_once_each_then_every_change_without_a_gap(
    incidents: Incidents, service: RunningService, rows: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    labels = {"test": token()}
    await _insert_incidents(rows, labels["test"], 1200)
    stop = asyncio.Event()

    async def keep_writing() -> None:
        while not stop.is_set():
            incident = await incidents.opened(labels=labels)
            await incidents.start_investigation(incident.incident_id)

    async with incidents_at(service.address) as watching_incidents, asyncio.TaskGroup() as tasks:
        writers = [tasks.create_task(keep_writing()) for _ in range(3)]
        watcher = Watcher(
            watching_incidents.watch(labels=labels, include_existing=True, heartbeats=True), content="event"
        )
        while not (await watcher.read()).resume_token:
            pass
        existing = [response.incident.incident_id for response in watcher.responses[:-1]]
        assert len(existing) == len(set(existing)) >= 1200
        await watcher.change()
        stop.set()
        await asyncio.wait(writers)
        last = token()
        await note(incidents, existing[0], last)
        await watcher.until_event(last)

    known: dict[str, int] = {}
    for response in watcher.responses:
        if response.HasField("incident"):
            incident = response.incident
            known[incident.incident_id] = max(known.get(incident.incident_id, 0), version(incident))
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
        pytest.param({"states": ["OPEN"]}, True, id="its state"),
        pytest.param({"states": ["RESOLVED"]}, False, id="another state"),
        pytest.param({"severities": ["HIGH"]}, True, id="its severity"),
        pytest.param({"severities": ["LOW"]}, False, id="another severity"),
    ],
)
@pytest.mark.parametrize("by_id", [pytest.param(True, id="by id"), pytest.param(False, id="by label")])
async def test_an_existing_incident_comes_when_it_matches_now(
    incidents: Incidents, fields: dict[str, list[str]], by_id: bool, comes: bool
) -> None:
    labels = {"test": token()}
    incident = await incidents.opened(labels=labels)
    narrow: dict[str, Any] = {"incident_id": incident.incident_id} if by_id else {"labels": labels}
    watcher = await watching(incidents, include_existing=True, **fields, **narrow)
    assert [response.incident for response in watcher.responses[:-1]] == ([incident] if comes else [])
    assert all(not response.resume_token for response in watcher.responses[:-1])


async def test_missed_changes_of_incidents_removed_by_retention_are_skipped(
    incidents: Incidents, rows: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    labels = {"test": token()}
    start = await watching(incidents, labels=labels)
    removed, kept = await incidents.opened(labels=labels), await incidents.opened(labels=labels)
    await rows.execute("DELETE FROM incidents WHERE incident_id = $1", removed.incident_id)
    resumed = await watching(incidents, labels=labels, resume_token=start.token)
    assert (await resumed.change()).incident == kept
    assert [type_name(change.event) for change in resumed.changes] == ["OPENED"]
