"""Watch over restarts and lost connections: a stream that resumes from its latest token has no gap."""

import asyncio
import signal
from collections.abc import Mapping, Sequence

import asyncpg
import pytest
from grpc import StatusCode

from awoooi.client import CallError, IncidentClient
from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents, incidents_at
from tests.eventually import eventually
from tests.incident.incidents import effects_settled, token
from tests.incident.integration.watch.audience import Audience
from tests.incident.integration.watch.watching import act, note, watching
from tests.killed_service import killed_service
from tests.outbox_due import make_due
from tests.rpc_errors import read_refusal
from tests.services import TIMEOUT_SECONDS, healthy_service

WATCHERS = 50
INCIDENTS = 40
WRITERS = 4


@pytest.mark.slow
async def test_fifty_watchers_resume_without_a_gap_when_the_service_is_killed_and_restarted(
    database: str,
) -> None:
    async with (
        killed_service("incident", database) as service,
        IncidentClient(service.address, timeout=TIMEOUT_SECONDS) as writing,
        asyncio.TaskGroup() as tasks,
    ):
        audience = Audience(service.address, last_event=token())
        watchers = [tasks.create_task(audience.watch()) for _ in range(WATCHERS)]
        await audience.all_there(WATCHERS)
        writers = [tasks.create_task(_write(writing)) for _ in range(WRITERS)]
        for events in (INCIDENTS // 2, INCIDENTS):
            # Midway: some watchers have changes that others have not.
            await audience.has_seen(events)
            await service.kill()
            await service.start()
        await asyncio.wait(writers)
        written = await _events_when_settled(database)
        await writing.add_event(
            writers[0].result(), type="NOTE", summary="the last", event_id=audience.last_event
        )
    assert len(written) >= 2 * INCIDENTS
    for watcher in watchers:
        assert sorted(event.event_id for event in watcher.result()) == sorted([*written, audience.last_event])
        for sequences in _changes_of_state(watcher.result()).values():
            assert sequences == sorted(sequences)


async def _write(incidents: IncidentClient) -> str:
    """Open and resolve incidents, each call retried while the service is down; returns the last one's id."""
    incident_id = ""
    for _ in range(INCIDENTS // WRITERS):
        incident_id = (await incidents.create(title="disk full", severity="HIGH")).incident.incident_id
        await incidents.resolve(incident_id, resolution_type="HUMAN")
    return incident_id


async def _events_when_settled(database: str) -> Sequence[str]:
    connection = await asyncpg.connect(database)
    try:
        # Ends the leases of the killed processes.
        await make_due(connection)
        await effects_settled(connection)
        return [row["event_id"] for row in await connection.fetch("SELECT event_id FROM incident_events")]
    finally:
        await connection.close()


def _changes_of_state(events: Sequence[incident_pb2.IncidentEvent]) -> Mapping[str, Sequence[int]]:
    """The sequence numbers of each incident's changes of state, in the order they came."""
    found: dict[str, list[int]] = {}
    for event in events:
        if event.type in (incident_pb2.IncidentEvent.TYPE_OPENED, incident_pb2.IncidentEvent.TYPE_RESOLVED):
            found.setdefault(event.incident_id, []).append(event.sequence)
    return found


async def test_a_resume_token_is_valid_on_another_server_and_after_a_restart_without_gap_or_duplicate(
    database: str,
) -> None:
    async with healthy_service("incident", database) as first, incidents_at(first.address) as incidents:
        watcher = await watching(incidents)
        incident_id = (await incidents.opened()).incident_id
        opened_event = (await watcher.change()).event.event_id
        async with healthy_service("incident", database) as second, incidents_at(second.address) as other:
            await note(incidents, incident_id, "at-the-first")
            elsewhere = await watching(other, resume_token=watcher.token)
            assert await elsewhere.until_event("at-the-first") == ["at-the-first"]
    async with healthy_service("incident", database) as third, incidents_at(third.address) as incidents:
        await note(incidents, incident_id, "after-all")
        for passed, resume_token in (
            ([opened_event, "at-the-first", "after-all"], watcher.responses[0].resume_token),
            (["at-the-first", "after-all"], watcher.token),
            (["after-all"], elsewhere.token),
        ):
            resumed = await watching(incidents, resume_token=resume_token)
            assert await resumed.until_event("after-all") == passed


async def test_a_graceful_stop_ends_streams_at_once_with_their_resume_token(
    database: str,
) -> None:
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        watcher = await watching(incidents)
        incident_id = (await incidents.opened()).incident_id
        await watcher.change()
        service.send(signal.SIGTERM)
        with pytest.raises(CallError) as caught:
            await watcher.read()
        refusal = read_refusal(caught.value)
        assert (refusal.code, refusal.reason) == (StatusCode.UNAVAILABLE, "WATCH_ENDED")
        assert await service.ended() == 0
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        await act(incidents, "start", incident_id)
        for resume_token in (watcher.token, refusal.metadata["resume_token"]):
            resumed = await watching(incidents, resume_token=resume_token)
            assert (await resumed.change()).incident.state == incident_pb2.Incident.STATE_INVESTIGATING
            assert len(resumed.changes) == 1


async def test_streams_survive_a_lost_database_connection_without_a_gap(
    incidents: Incidents, rows: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    labels = {"test": token()}
    watcher = await watching(incidents, labels=labels)
    feeding = await eventually(lambda: rows.fetchval(FEEDING))
    await rows.execute("SELECT pg_terminate_backend($1)", feeding)
    incident = await incidents.resolved(labels=labels)
    last = token()
    await note(incidents, incident.incident_id, last)
    came = await watcher.until_event(last)
    written = await rows.fetch(
        "SELECT event_id FROM incident_events WHERE incident_id = $1 AND event_id = ANY ($2)",
        incident.incident_id,
        came,
    )
    assert sorted(came) == sorted(row["event_id"] for row in written)
    assert {"OPENED", "RESOLVED"} <= {
        incident_pb2.IncidentEvent.Type.Name(change.event.type).removeprefix("TYPE_")
        for change in watcher.changes
    }


# The backend that waits for notifications on behalf of the service's watchers.
FEEDING = """
    SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted AND datname = current_database()
"""


async def test_writers_notify_only_while_a_tailer_has_requested_it(
    database: str,
) -> None:
    notifications: asyncio.Queue[str] = asyncio.Queue()
    connection = await asyncpg.connect(database)
    await connection.add_listener(
        "incident_events", lambda *arguments: notifications.put_nowait(str(arguments[-1]))
    )
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        await incidents.opened()
        await connection.execute("NOTIFY incident_events, 'no watcher'")
        assert await _next(notifications) == "no watcher"
        watcher = await watching(incidents)
        await eventually(lambda: connection.fetchval(FEEDING))
        await incidents.opened()
        assert await _next(notifications) == ""
        await watcher.change()
        watcher.stream.close()
        await eventually(lambda: connection.fetchval(FEEDING), lambda pid: pid is None)
    await connection.close()


async def _next(notifications: asyncio.Queue[str]) -> str:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        return await notifications.get()
