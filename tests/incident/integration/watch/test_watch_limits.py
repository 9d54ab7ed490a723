"""Watch: slow watchers, the limit of streams, cancelled streams, heartbeats."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeVar

import asyncpg
import grpc.aio
import pytest
from grpc import StatusCode

from awoooi.client import CallError
from tests.callers import Incidents, incidents_at
from tests.eventually import eventually
from tests.incident.incidents import token
from tests.incident.integration.watch.watching import note, watch_server, watching
from tests.rpc_errors import read_refusal, refused
from tests.services import RunningService
from tests.watching import WatchServer

T = TypeVar("T")

# Fills the flow-control window of gRPC (64 KiB, for that of `narrow_incidents` does not grow) with a few changes.
LARGE = "x" * 8192


@asynccontextmanager
async def narrow_incidents(address: str) -> AsyncIterator[Incidents]:
    """Calls over a channel with a small flow-control window."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Incidents(channel)


async def test_a_slow_watcher_is_ended_with_a_resume_token_and_the_others_continue(
    incidents: Incidents, service: RunningService
) -> None:
    labels = {"test": token()}
    incident_id = (await incidents.opened(labels=labels, description=LARGE)).incident_id
    async with (
        watch_server(service.database_url, max_changes=20) as server,
        narrow_incidents(server.address) as slow_incidents,
        incidents_at(server.address) as fast_incidents,
    ):
        slow = await watching(slow_incidents, labels=labels)
        fast = await watching(fast_incidents, labels=labels)
        sent: list[str] = []
        for _ in range(100):
            sent.append(token())
            await note(incidents, incident_id, sent[-1], summary=LARGE)
            assert (await fast.change()).event.event_id == sent[-1]
        assert server.feed.backlog <= 20
        with pytest.raises(CallError) as caught:
            await slow.until_event(sent[-1])
        refusal = read_refusal(caught.value)
        assert (refusal.code, refusal.reason) == (StatusCode.RESOURCE_EXHAUSTED, "WATCHER_TOO_SLOW")
        came = [change.event.event_id for change in slow.changes]
        assert came == sent[: len(came)]
        assert 0 < len(came) < len(sent)
        for resume_token in (slow.token, refusal.metadata["resume_token"]):
            resumed = await watching(fast_incidents, labels=labels, resume_token=resume_token)
            assert await resumed.until_event(sent[-1]) == sent[len(came) :]
        assert len(await fast.until_event(await _one_more(incidents, incident_id))) == len(sent) + 1


async def _one_more(incidents: Incidents, incident_id: str) -> str:
    event_id = token()
    await note(incidents, incident_id, event_id)
    return event_id


async def test_a_burst_larger_than_the_backlog_limit_ends_no_watcher_that_reads(
    incidents: Incidents, service: RunningService, rows: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    labels = {"test": token()}
    incident_id = (await incidents.opened(labels=labels)).incident_id
    async with (
        # On a busy machine a watcher that reads may need longer for half of the backlog than the default.
        watch_server(
            service.database_url, max_changes=1000, backpressure_timeout=timedelta(minutes=1)
        ) as server,
        incidents_at(server.address) as watching_incidents,
    ):
        watchers = [await watching(watching_incidents, labels=labels) for _ in range(5)]
        events = [f"{incident_id}-{number}" for number in range(3000)]
        await _insert_notes(rows, incident_id, events)
        for came in await asyncio.gather(*(watcher.until_event(events[-1]) for watcher in watchers)):
            assert came == events


async def _insert_notes(
    rows: "asyncpg.Connection[asyncpg.Record]", incident_id: str, event_ids: list[str]
) -> None:
    await rows.execute(
        """
        INSERT INTO incident_events (event_id, incident_id, type, actor, summary, resolution_number)
        SELECT event_id, $1, 'NOTE', 'tester', 'one of many', 0
        FROM unnest($2::text[]) WITH ORDINALITY AS new (event_id, place) ORDER BY place
        """,
        incident_id,
        event_ids,
    )


async def test_a_stream_above_the_limit_of_the_process_is_refused(
    service: RunningService,
) -> None:
    async with (
        watch_server(service.database_url, max_watchers=2) as server,
        incidents_at(server.address) as incidents,
    ):
        first, _second = await watching(incidents), await watching(incidents)
        refusal = await refused(anext(incidents.watch()))
        assert (refusal.code, refusal.reason) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS")
        assert refusal.retry_after_seconds
        first.stream.close()
        await _watchers(server, 1)
        await watching(incidents)


async def test_cancelled_streams_release_their_resources(
    incidents: Incidents, service: RunningService
) -> None:
    labels = {"test": token()}
    incident_id = (await incidents.opened(labels=labels, description=LARGE)).incident_id
    async with watch_server(service.database_url, heartbeat=timedelta(milliseconds=10)) as server:
        async with incidents_at(server.address) as watching_incidents:
            await watching(watching_incidents)
        await _watchers(server, 0)
        tasks_before = len(asyncio.all_tasks())
        async with narrow_incidents(server.address) as watching_incidents:
            idle = [await watching(watching_incidents, labels={"test": token()}) for _ in range(10)]
            # These do not read, so that the server is in the middle of sending.
            stalled = [await watching(watching_incidents, labels=labels) for _ in range(10)]
            for _ in range(30):
                await note(incidents, incident_id, token(), summary=LARGE)
            await eventually(lambda: _value(server.feed.backlog > 0))
            for watcher in (*idle, *stalled):
                watcher.stream.close()
        await _watchers(server, 0)
        await eventually(lambda: _value(server.feed.backlog), lambda backlog: backlog == 0)
        gc.collect()
        await eventually(lambda: _value(len(asyncio.all_tasks())), lambda tasks: tasks <= tasks_before)


async def _value(value: T) -> T:
    return value


async def _watchers(server: WatchServer, number: int) -> None:
    """Return when so many watch."""
    await eventually(lambda: _value(server.feed.watchers), lambda watchers: watchers == number)


async def test_an_idle_stream_sends_heartbeats_with_its_position(
    incidents: Incidents, service: RunningService
) -> None:
    labels = {"test": token()}
    async with (
        watch_server(service.database_url, heartbeat=timedelta(milliseconds=20)) as server,
        incidents_at(server.address) as watching_incidents,
    ):
        watcher = await watching(watching_incidents, labels=labels)
        # Not for this watcher; its tokens pass them all the same.
        await incidents.opened()
        while watcher.token == watcher.responses[0].resume_token:
            await watcher.read()
        assert watcher.changes == []
        assert len(watcher.responses) > 1
        incident = await incidents.opened(labels=labels)
        for resume_token in dict.fromkeys(response.resume_token for response in watcher.responses):
            resumed = await watching(watching_incidents, labels=labels, resume_token=resume_token)
            assert (await resumed.change()).incident == incident
            resumed.stream.close()
