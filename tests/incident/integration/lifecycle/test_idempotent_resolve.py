"""A Resolve of a RESOLVED incident writes nothing: the write-ahead log of a quiet database does not move."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import pytest_asyncio

from awoooi.incident.v1 import incident_service_pb2 as pb
from flywheel.postgres.embedded import EmbeddedPostgres
from tests.callers import Incidents, incidents_at
from tests.eventually import eventually
from tests.incident.incidents import HUMAN, effects_settled
from tests.services import healthy_service

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

# No background writes: no vacuum, no checkpoint, no running-transactions record.
_QUIET = {
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "off",
    # A page's first change since a checkpoint would be written whole, hint bits included.
    "wal_log_hints": "off",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quiet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, str]]:
    """The address of an incident service, and the URL of its database on a server of its own."""
    directory: Path = tmp_path_factory.mktemp("quiet")
    server = EmbeddedPostgres(directory / "postgres", settings=_QUIET)
    await asyncio.to_thread(server.start)
    try:
        server.create_database("incident")
        async with healthy_service("incident", server.url("incident")) as service:
            yield service.address, service.database_url
    finally:
        await asyncio.to_thread(server.stop)


@pytest_asyncio.fixture
async def incidents(quiet: tuple[str, str]) -> AsyncIterator[Incidents]:
    async with incidents_at(quiet[0]) as found:
        yield found


@pytest_asyncio.fixture
async def rows(quiet: tuple[str, str]) -> "AsyncIterator[Rows]":
    connection = await asyncpg.connect(quiet[1])
    try:
        yield connection
    finally:
        await connection.close()


_TABLES = (
    "incidents",
    "incident_events",
    "outbox",
    "counters",
    "postmortems",
    "dispositions",
    "create_requests",
)


async def everything(rows: "Rows") -> dict[str, Any]:
    """Every row of every table with the transactions that wrote and locked it."""
    return {
        table: sorted(
            tuple(row)
            for row in await rows.fetch(f"SELECT ctid::text, xmin::text, xmax::text, t::text FROM {table} t")  # noqa: S608
        )
        for table in _TABLES
    }


async def wal(rows: "Rows") -> str:
    """How far the write-ahead log is, once it has stood still between two looks."""

    async def look() -> tuple[str, str]:
        first = await rows.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        await rows.execute("SELECT pg_sleep(0.25)")
        return first, await rows.fetchval("SELECT pg_current_wal_insert_lsn()::text")

    return (await eventually(look, lambda seen: seen[0] == seen[1]))[0]


async def test_a_resolve_writes_to_the_write_ahead_log(incidents: Incidents, rows: "Rows") -> None:
    """The premise of the tests below: a write moves the log."""
    incident = await incidents.opened()
    before = await wal(rows)
    await incidents.resolve(incident.incident_id, resolution_type=HUMAN)
    assert await wal(rows) != before


@pytest.mark.parametrize("callers", [1, 100])
async def test_an_idempotent_resolve_writes_nothing(incidents: Incidents, rows: "Rows", callers: int) -> None:
    incident = await incidents.resolved()
    await effects_settled(rows)
    again: dict[str, Any] = {
        "incident_id": incident.incident_id,
        "resolution_type": HUMAN,
        "note": "another",
        "etag": "stale",
    }
    # The first read sets hint bits; from now on reads leave the pages as they are.
    await incidents.resolve(**again)
    rows_before, wal_before = await everything(rows), await wal(rows)
    transaction_before = await rows.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    answers = await asyncio.gather(*(incidents.resolve(**again) for _ in range(callers)))
    assert await wal(rows) == wal_before
    assert await everything(rows) == rows_before
    # Not even a transaction id was used.
    assert await rows.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text") == transaction_before
    assert all(answer.already_resolved and answer.incident == incident for answer in answers)


async def test_an_idempotent_batch_resolve_writes_nothing(incidents: Incidents, rows: "Rows") -> None:
    ids = [(await incidents.resolved()).incident_id for _ in range(5)]
    await effects_settled(rows)
    again = [pb.BatchResolveRequest.Item(incident_id=one, resolution_type=HUMAN) for one in ids]
    await incidents.batch_resolve(again)
    before = await everything(rows), await wal(rows)
    results = await incidents.batch_resolve(again)
    assert (await everything(rows), await wal(rows)) == before
    assert all(result.resolved.already_resolved for result in results)
