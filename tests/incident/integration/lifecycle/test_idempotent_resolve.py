"""A Resolve of a RESOLVED incident writes nothing: a quiet database uses no transaction id but for the audit record of it."""

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

# No transactions but those of the service.
_QUIET = {"autovacuum": "off", "fsync": "off"}


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


_NEXT = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
# That a call changed nothing is recorded apart from it, a moment later.
_RECORDED = """
    SELECT coalesce(sum(calls), 0)::int FROM audit_records
    WHERE outcome = 'UNCHANGED' AND $1 = ANY (string_to_array(targets, ' '))
"""


async def writers(rows: "Rows", first: int, incident_id: str, *, calls: int) -> list[int]:
    """The transactions from `first` on that wrote or locked a row, but for the records of `calls` calls without a change."""
    await eventually(lambda: rows.fetchval(_RECORDED, incident_id), lambda recorded: recorded >= calls)
    known = await rows.fetch("SELECT xmin::text::bigint AS id FROM audit_records WHERE outcome = 'UNCHANGED'")
    return [
        each for each in range(first, await rows.fetchval(_NEXT)) if each not in {row["id"] for row in known}
    ]


async def test_a_resolve_uses_a_transaction_id(incidents: Incidents, rows: "Rows") -> None:
    """The premise of the tests below."""
    incident = await incidents.opened()
    first = await rows.fetchval(_NEXT)
    await incidents.resolve(incident.incident_id, resolution_type=HUMAN)
    assert await writers(rows, first, incident.incident_id, calls=0)


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
    rows_before, first = await everything(rows), await rows.fetchval(_NEXT)
    answers = await asyncio.gather(*(incidents.resolve(**again) for _ in range(callers)))
    assert await writers(rows, first, incident.incident_id, calls=callers) == []
    assert await everything(rows) == rows_before
    assert all(answer.already_resolved and answer.incident == incident for answer in answers)


async def test_an_idempotent_batch_resolve_writes_nothing(incidents: Incidents, rows: "Rows") -> None:
    ids = [(await incidents.resolved()).incident_id for _ in range(5)]
    await effects_settled(rows)
    again = [pb.BatchResolveRequest.Item(incident_id=one, resolution_type=HUMAN) for one in ids]
    rows_before, first = await everything(rows), await rows.fetchval(_NEXT)
    results = await incidents.batch_resolve(again)
    assert await writers(rows, first, ids[0], calls=1) == []
    assert await everything(rows) == rows_before
    assert all(result.resolved.already_resolved for result in results)
