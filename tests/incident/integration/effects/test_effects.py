"""The effects of a resolution: exactly once, also when the process is killed."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest

from awoooi.client import CallError
from incident.model import Effect
from tests.callers import incidents_at
from tests.eventually import eventually
from tests.incident.incidents import HUMAN, NO_ACTION, RESOLVED, token
from tests.outbox_due import make_due
from tests.services import RunningService, healthy_service

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]


@asynccontextmanager
async def connected(url: str) -> "AsyncIterator[Rows]":
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def settled(rows: "Rows", incident_id: str) -> None:
    """Return when no effect of an incident waits any more."""
    waiting = """
        SELECT count(*) FROM outbox
        WHERE payload->>'incident_id' = $1 AND state = 'PENDING'
    """
    await eventually(lambda: rows.fetchval(waiting, incident_id), lambda count: count == 0)


async def took_effect_once(rows: "Rows", incident_id: str) -> None:
    """Every effect of the incident's first resolution is there exactly once."""
    jobs = await rows.fetch("SELECT topic, state FROM outbox WHERE payload->>'incident_id' = $1", incident_id)
    assert Counter(row["topic"] for row in jobs) == {effect.topic: 1 for effect in Effect}
    assert {row["state"] for row in jobs} <= {"DONE", "SKIPPED"}
    for table in ("postmortems", "dispositions"):
        kept = await rows.fetch(f"SELECT * FROM {table} WHERE incident_id = $1", incident_id)  # noqa: S608 - constants
        assert [row["resolution_number"] for row in kept] == [1], table
    done = await rows.fetch(
        "SELECT attributes->>'effect' AS effect FROM incident_events "
        "WHERE incident_id = $1 AND type = 'EFFECT_DONE'",
        incident_id,
    )
    effects = Counter(row["effect"] for row in done)
    assert effects["POSTMORTEM"] == effects["DISPOSITION"] == 1
    assert set(effects.values()) == {1}


async def counted(rows: "Rows") -> int:
    total: int | None = await rows.fetchval(
        "SELECT sum(value)::bigint FROM counters WHERE name = 'incidents_resolved'"
    )
    return total or 0


async def test_every_effect_of_a_resolution_takes_effect_exactly_once(
    service: RunningService, rows: "Rows"
) -> None:
    async with incidents_at(service.address) as incidents:
        incident = await incidents.resolved()
        await settled(rows, incident.incident_id)
        await took_effect_once(rows, incident.incident_id)
        disposition = await rows.fetchrow(
            "SELECT * FROM dispositions WHERE incident_id = $1", incident.incident_id
        )
        assert disposition is not None
        assert (disposition["resolution_type"], disposition["severity"]) == ("NO_ACTION", "HIGH")
        taken = incident.resolve_time.ToDatetime() - incident.create_time.ToDatetime()
        assert disposition["resolution_seconds"] == pytest.approx(taken.total_seconds(), abs=1e-3)
        assert (await incidents.event_types(incident.incident_id))[:2] == ["OPENED", "RESOLVED"]


async def test_the_postmortem_has_the_timeline_and_escapes_markup(
    service: RunningService, rows: "Rows"
) -> None:
    async with incidents_at(service.address, actor="alice") as incidents:
        fingerprint = token()
        incident = await incidents.opened(
            fingerprint=fingerprint, title="disk\n# full", description="> at night"
        )
        await incidents.report(fingerprint=fingerprint)
        await incidents.resolve(incident.incident_id, resolution_type=HUMAN, note="cleaned\n# up")
        await settled(rows, incident.incident_id)
    markdown = await rows.fetchval(
        "SELECT markdown FROM postmortems WHERE incident_id = $1", incident.incident_id
    )
    lines = markdown.splitlines()
    assert lines[0] == "# disk # full"
    assert not [line for line in lines if line.startswith(("# up", "# full"))]
    for part in (incident.incident_id, "HIGH", "alice", "HUMAN", "cleaned", "RESOLVED", "DEDUPLICATED"):
        assert part in markdown


async def test_concurrent_resolutions_each_take_effect_exactly_once(
    service: RunningService, rows: "Rows"
) -> None:
    before = await counted(rows)
    async with incidents_at(service.address) as incidents:
        ids = [(await incidents.opened()).incident_id for _ in range(50)]
        await asyncio.gather(
            *(incidents.resolve(one, resolution_type=NO_ACTION) for one in ids for _ in range(4))
        )
    for one in ids:
        await settled(rows, one)
        await took_effect_once(rows, one)
    assert await counted(rows) >= before + 50


@pytest.mark.parametrize("failpoint", ["outbox_claimed", "outbox_delivered", "outbox_before_done_commit"])
async def test_after_a_kill_during_an_effect_a_second_process_takes_over_the_lease_without_duplicates(
    database: str, failpoint: str
) -> None:
    async with connected(database) as rows:
        async with healthy_service("incident", database, variables={"FAILPOINTS": failpoint}) as doomed:
            async with incidents_at(doomed.address) as incidents:
                incident = await incidents.opened()
                request: dict[str, Any] = {"incident_id": incident.incident_id, "resolution_type": NO_ACTION}
                # The process may be killed before the response; the commit counts.
                await asyncio.gather(incidents.resolve(**request), return_exceptions=True)
            assert await doomed.ended() == -signal.SIGKILL
        state = "SELECT state FROM incidents WHERE incident_id = $1"
        assert await rows.fetchval(state, incident.incident_id) == "RESOLVED"
        assert await rows.fetchval("SELECT count(*) FROM outbox WHERE lease_token IS NOT NULL")
        async with healthy_service("incident", database) as second:
            # Ends the leases of the killed process: waiting for it would only take time.
            await make_due(rows)
            await settled(rows, incident.incident_id)
            await took_effect_once(rows, incident.incident_id)
            async with incidents_at(second.address) as incidents:
                again = await incidents.resolve(**request)
            assert again.already_resolved
        assert await counted(rows) == 1
        attempts = "SELECT max(attempts) FROM outbox"
        assert await rows.fetchval(attempts) == 2


async def test_after_a_kill_between_commit_and_response_a_retry_of_resolve_is_idempotent(
    database: str,
) -> None:
    async with connected(database) as rows, connected(database) as locker:
        async with healthy_service("incident", database) as doomed, incidents_at(doomed.address) as incidents:
            incident = await incidents.opened()
            request: dict[str, Any] = {"incident_id": incident.incident_id, "resolution_type": NO_ACTION}
            async with locker.transaction():
                await locker.execute(
                    "SELECT FROM incidents WHERE incident_id = $1 FOR UPDATE", incident.incident_id
                )
                call = asyncio.ensure_future(incidents.resolve(**request))
                await eventually(
                    lambda: rows.fetchval(
                        "SELECT count(*) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                    )
                )
                # The statement is at the database; from here on the process cannot receive its result.
                doomed.send(signal.SIGSTOP)
            state = "SELECT state = 'RESOLVED' FROM incidents WHERE incident_id = $1"
            await eventually(lambda: rows.fetchval(state, incident.incident_id))
            assert not call.done()
            doomed.send(signal.SIGKILL)
            (error,) = await asyncio.gather(call, return_exceptions=True)
            assert isinstance(error, CallError)
            assert error.code is grpc.StatusCode.UNAVAILABLE
        async with healthy_service("incident", database) as second, incidents_at(second.address) as incidents:
            again = await incidents.resolve(**request)
            assert again.already_resolved
            assert (again.incident.state, again.incident.resolution_number) == (RESOLVED, 1)
            # Those that the killed process had leased, too.
            await make_due(rows)
            await settled(rows, incident.incident_id)
            await took_effect_once(rows, incident.incident_id)
            assert (await incidents.event_types(incident.incident_id)).count("RESOLVED") == 1


async def test_a_kill_before_the_commit_rolls_everything_back(database: str) -> None:
    async with connected(database) as rows, connected(database) as locker:
        async with healthy_service("incident", database) as doomed, incidents_at(doomed.address) as incidents:
            incident = await incidents.opened()
            async with locker.transaction():
                await locker.execute(
                    "SELECT FROM incidents WHERE incident_id = $1 FOR UPDATE", incident.incident_id
                )
                call = asyncio.ensure_future(
                    incidents.resolve(incident.incident_id, resolution_type=NO_ACTION)
                )
                waiting = (
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
                await eventually(lambda: rows.fetchval(waiting))
                # The server's end of the connection goes first: the statement cannot commit any more.
                await rows.execute("""
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'
                """)
                doomed.send(signal.SIGKILL)
                await asyncio.gather(call, return_exceptions=True)
                await eventually(lambda: rows.fetchval(waiting), lambda count: not count)
        unresolved = "SELECT state FROM incidents WHERE incident_id = $1"
        assert await rows.fetchval(unresolved, incident.incident_id) == "OPEN"
        assert await rows.fetchval("SELECT count(*) FROM outbox") == 0
