"""What grows with the stored data has a pool of connections of its own: it never keeps Get, Resolve or health waiting.

A lock on a table makes each read of it as slow as the database allows, however fast the machine is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc.aio
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from awoooi.client import CallError
from tests.callers import Incidents, incidents_at
from tests.databases import cloned_database
from tests.eventually import eventually
from tests.incident.incidents import HUMAN
from tests.migrated import migrate_incident
from tests.rpc_errors import read_refusal, refused
from tests.services import TIMEOUT_SECONDS, RunningService, healthy_service

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

Read = Callable[[Incidents], Awaitable[Any]]
# The longest query with the most words.
LONGEST_QUERY = " ".join(f"w{number:02}" for number in range(220))


async def existing(incidents: Incidents) -> Any:
    """The first response of a Watch that begins with what exists."""
    async with incidents.watch(include_existing=True, heartbeats=True) as watch:
        return await anext(watch)


# Each with a table that it reads, and those calls that do not.
READS: dict[str, tuple[str, Read]] = {
    "SearchKnowledge": ("knowledge", lambda incidents: incidents.search_knowledge(LONGEST_QUERY).page()),
    "ListSideEffects": ("outbox", lambda incidents: incidents.list_side_effects().page()),
    "ListEvents": ("incident_events", lambda incidents: incidents.list_events("INC-20260507-99ADF2").page()),
    "List": ("incidents", lambda incidents: incidents.list().page()),
    "Watch": ("incidents", existing),
    "GetFlywheelStats": ("postmortems", lambda incidents: incidents.stats()),
}
WAITING = """
    SELECT application_name, count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' GROUP BY application_name
"""
# Two connections of the five are for the stats and for background scans.
PLACES, QUEUE_OF_A_PEER = 3, 48


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def patient() -> AsyncIterator[RunningService]:
    """A service whose heavy reads may take long, and with one connection for all other calls but its workers'."""
    variables = {"INCIDENT_DATABASE_READ_TIMEOUT": "25s", "INCIDENT_DATABASE_POOL_SIZE": "3"}
    async with (
        cloned_database("incident", migrate_incident) as url,
        healthy_service("incident", url, variables=variables) as running,
    ):
        yield running


@asynccontextmanager
async def locked(service: RunningService, table: str) -> "AsyncIterator[Rows]":
    """Every read of a table waits until the block ends. Gives another connection."""
    holder, rows = await asyncpg.connect(service.database_url), await asyncpg.connect(service.database_url)
    try:
        async with holder.transaction():
            await holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield rows
    finally:
        await holder.close()
        await rows.close()


async def waiting(rows: "Rows") -> dict[str, int]:
    """How many connections of each kind wait for a lock."""
    return {name: count for name, count in await rows.fetch(WAITING)}  # noqa: C416 - of rows, not of pairs


@pytest.mark.parametrize(("table", "read"), READS.values(), ids=READS.keys())
async def test_however_many_there_are_they_take_no_connection_of_other_calls(
    patient: RunningService, table: str, read: Read
) -> None:
    places = 1 if table == "postmortems" else PLACES
    async with incidents_at(patient.address) as incidents:
        async with locked(patient, table) as rows:
            calls = [asyncio.ensure_future(read(incidents)) for _ in range(20)]
            # All that may run do, and wait in the database.
            await eventually(lambda: waiting(rows), lambda found: found.get("incident-reads", 0) == places)
            if table != "incidents":
                await served(patient, incidents)
            assert (await waiting(rows)).get("incident-reads") == places
            assert not any(call.done() for call in calls)
        # The statements of the rest are one after the other in the same places.
        results = await asyncio.gather(*calls, return_exceptions=True)
    unexpected = [each for each in results if isinstance(each, Exception) and not _is_not_found(each)]
    assert not unexpected


def _is_not_found(error: Exception) -> bool:
    return isinstance(error, CallError) and error.code is grpc.StatusCode.NOT_FOUND


async def served(service: RunningService, incidents: Incidents) -> None:
    """Others' calls and health checks are answered, while the reads that the database holds up are not."""
    async with grpc.aio.insecure_channel(service.address) as channel:
        health: Any = HealthStub(channel)
        for _ in range(5):
            with pytest.raises(CallError) as caught:
                await incidents.get("INC-20260507-99ADF3")
            assert caught.value.code is grpc.StatusCode.NOT_FOUND
            response = await health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
            assert response.status == health_pb2.HealthCheckResponse.SERVING
    assert not service.events("health_check_failed")


async def test_an_incident_is_opened_and_resolved_while_searches_wait(patient: RunningService) -> None:
    async with incidents_at(patient.address) as incidents, locked(patient, "knowledge") as rows:
        calls = [asyncio.ensure_future(incidents.search_knowledge(LONGEST_QUERY).page()) for _ in range(20)]
        await eventually(lambda: waiting(rows), lambda found: found.get("incident-reads", 0) == PLACES)
        incident = await incidents.opened()
        assert not (await incidents.resolve(incident.incident_id, resolution_type=HUMAN)).already_resolved
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()
    await asyncio.wait(calls)


async def test_a_search_beyond_the_queue_is_resource_exhausted_at_once(patient: RunningService) -> None:
    async with incidents_at(patient.address) as incidents, locked(patient, "knowledge"):
        calls = [
            asyncio.ensure_future(incidents.search_knowledge("disk full").page())
            for _ in range(PLACES + QUEUE_OF_A_PEER + 1)
        ]
        (first,), others = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        error = first.exception()
        assert isinstance(error, CallError)
        refusal = read_refusal(error)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_READS")
        assert refusal.retry_after_seconds == 1
        for call in others:
            call.cancel()
        await asyncio.wait(others)


async def test_stats_that_are_slow_are_those_before(patient: RunningService) -> None:
    async with incidents_at(patient.address) as incidents:
        before = await incidents.stats()
        async with locked(patient, "postmortems"):
            slow = [asyncio.ensure_future(incidents.stats()) for _ in range(20)]
            assert [each.read_time for each in await asyncio.gather(*slow)] == [before.read_time] * 20
        after = await eventually(incidents.stats, lambda stats: stats.read_time != before.read_time)
        assert after.read_time.ToNanoseconds() > before.read_time.ToNanoseconds()


async def test_the_statements_of_callers_that_hang_up_are_ended(patient: RunningService) -> None:
    async with incidents_at(patient.address) as incidents, locked(patient, "knowledge") as rows:
        for _ in range(3):
            calls = [asyncio.ensure_future(incidents.search_knowledge("disk").page()) for _ in range(PLACES)]
            await eventually(lambda: waiting(rows), lambda found: found.get("incident-reads", 0) == PLACES)
            for call in calls:
                call.cancel()
            await eventually(lambda: waiting(rows), lambda found: not found)


async def test_a_search_that_takes_too_long_is_ended_and_says_so() -> None:
    variables = {"INCIDENT_DATABASE_READ_TIMEOUT": "100ms"}
    async with (
        cloned_database("incident", migrate_incident) as url,
        healthy_service("incident", url, variables=variables) as service,
        incidents_at(service.address) as incidents,
    ):
        async with locked(service, "knowledge"):
            refusal = await refused(incidents.search_knowledge("disk full").page())
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "READ_TOO_LONG")
        # It is no outage: nothing says that the database is unavailable.
        assert not service.events("rpc_database_unavailable")
        assert not (await incidents.search_knowledge("disk full").page()).matches
