"""The incident service as a process: start, graceful stop, outages, errors of the environment."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from awoooi.client import CallError
from flywheel.postgres.embedded import EmbeddedPostgres
from tests.callers import incidents_at
from tests.databases import empty_database
from tests.eventually import eventually
from tests.incident.incidents import NO_ACTION
from tests.rpc_errors import read_refusal, refused
from tests.services import ServiceProcess, healthy_service, serving

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def connected(url: str) -> "AsyncIterator[Rows]":
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def health(address: str) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        incidents: Any = HealthStub(channel)  # the type stubs know no method of it
        response = await incidents.Check(health_pb2.HealthCheckRequest())
    status: int = response.status
    return status


URL: dict[str, Any] = {"INCIDENT_DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"}
REFUSED_STARTS: dict[str, tuple[dict[str, str], str]] = {
    "no database": ({}, "INCIDENT_DATABASE_URL: "),
    "odd address": (URL | {"INCIDENT_LISTEN": "nowhere"}, "INCIDENT_LISTEN: "),
    "odd duration": (URL | {"INCIDENT_STUCK_AFTER": "soon"}, "INCIDENT_STUCK_AFTER: "),
    "beyond loopback": (URL | {"INCIDENT_LISTEN": "0.0.0.0:0"}, "INCIDENT_LISTEN: 0.0.0.0:0"),
}


@pytest.mark.parametrize(("variables", "message"), REFUSED_STARTS.values(), ids=REFUSED_STARTS.keys())
def test_a_process_that_cannot_start_logs_the_reason_in_one_line_without_the_password(
    variables: dict[str, str], message: str
) -> None:
    process = ServiceProcess("incident", ["serve"], variables)
    assert process.wait() in (1, 2)
    plain = [line for line in process.lines if not line.startswith("{")]
    assert len(plain) == 1, process.lines
    assert plain[0].startswith(message)
    assert "hunter2" not in "".join(process.lines)


def test_an_unreachable_database_is_reported_without_its_password() -> None:
    process = ServiceProcess("incident", ["migrate"], URL)
    assert process.wait() == 1
    assert process.lines[-1].startswith("INCIDENT_DATABASE_URL: the database cannot be reached: ")
    assert "hunter2" not in "".join(process.lines)


async def test_a_second_process_on_the_same_port_fails(database: str) -> None:
    async with healthy_service("incident", database) as first:
        second = ServiceProcess(
            "incident",
            ["serve"],
            {"INCIDENT_LISTEN": first.address, "INCIDENT_DATABASE_URL": database},
        )
        assert await asyncio.to_thread(second.wait) == 1
        assert second.lines[-1].startswith("INCIDENT_LISTEN: ")
        async with incidents_at(first.address) as incidents:
            await incidents.opened()


async def test_without_its_tables_the_service_is_unavailable_and_not_serving() -> None:
    async with empty_database() as url:
        variables: dict[str, Any] = {"INCIDENT_LISTEN": "127.0.0.1:0", "INCIDENT_DATABASE_URL": url}
        process = ServiceProcess("incident", ["serve"], variables)
        try:
            address = (await process.logged("serving"))["address"]
            assert await health(address) == NOT_SERVING
            async with incidents_at(address) as incidents:
                refusal = await refused(incidents.report())
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
            migrating = ServiceProcess("incident", ["migrate"], {"INCIDENT_DATABASE_URL": url})
            assert await migrating.ended() == 0
            async with grpc.aio.insecure_channel(address) as channel:
                await serving(channel)
            async with incidents_at(address) as incidents:
                await incidents.opened()
        finally:
            process.kill()


BREAKAGES = {
    "no table": "ALTER TABLE incidents RENAME TO hunter2",
    "no column": "ALTER TABLE incidents RENAME COLUMN title TO hunter2",
    "another type": "ALTER TABLE incidents ALTER COLUMN labels TYPE text USING 'hunter2'",
    "a rule that nothing passes": "ALTER TABLE incidents ADD CONSTRAINT hunter2 CHECK (title = 'hunter2') NOT VALID",
    "a trigger that fails": """
        CREATE FUNCTION hunter2() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'hunter2'; END $$;
        CREATE TRIGGER hunter2 BEFORE INSERT OR UPDATE ON incidents FOR EACH ROW EXECUTE FUNCTION hunter2()
    """,
}


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES.keys())
async def test_database_errors_are_not_disclosed_to_callers(database: str, breakage: str) -> None:
    async with (
        healthy_service("incident", database) as service,
        incidents_at(service.address) as incidents,
        connected(database) as rows,
    ):
        incident = await incidents.opened()
        await rows.execute(breakage)
        calls: list[Callable[[], Any]] = [
            lambda: incidents.report(title="hunter2x"),
            lambda: incidents.get(incident.incident_id),
            lambda: incidents.list().page(),
            lambda: incidents.start_investigation(incident.incident_id),
            lambda: incidents.resolve(incident.incident_id, resolution_type=NO_ACTION),
        ]
        # One after the other: at once, a Resolve that works would be why the other is refused.
        outcomes = [(await asyncio.gather(call(), return_exceptions=True))[0] for call in calls]
        failures = [read_refusal(outcome) for outcome in outcomes if isinstance(outcome, CallError)]
        assert failures
        for refusal in failures:
            assert refusal.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
            assert "hunter2" not in refusal.wire
            assert "incidents" not in refusal.message
            if refusal.code is grpc.StatusCode.INTERNAL:
                await service.logged("rpc_internal_error", correlation_id=refusal.metadata["correlation_id"])


async def test_a_graceful_stop_finishes_the_call_in_flight(database: str) -> None:
    async with (
        healthy_service("incident", database) as service,
        incidents_at(service.address) as incidents,
        connected(database) as rows,
        connected(database) as locker,
    ):
        incident = await incidents.opened()
        async with locker.transaction():
            await locker.execute(
                "SELECT FROM incidents WHERE incident_id = $1 FOR UPDATE", incident.incident_id
            )
            call = asyncio.ensure_future(incidents.resolve(incident.incident_id, resolution_type=NO_ACTION))
            await eventually(
                lambda: rows.fetchval(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            )
            service.send(signal.SIGTERM)
            await service.logged("stopping")
        answer = await call
        assert not answer.already_resolved
        assert await service.ended() == 0
        leases = "SELECT count(*) FROM outbox WHERE lease_token IS NOT NULL AND state = 'PENDING'"
        assert await rows.fetchval(leases) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_graceful_stop_when_idle_exits_with_zero(database: str, number: signal.Signals) -> None:
    async with healthy_service("incident", database) as service:
        service.send(number)
        assert await service.ended() == 0
        assert service.events("stopped")


async def test_the_service_is_unavailable_during_a_database_outage_and_recovers(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    await asyncio.to_thread(postgres.start)
    try:
        postgres.create_database("incident")
        async with (
            healthy_service("incident", postgres.url("incident")) as service,
            incidents_at(service.address) as incidents,
        ):
            incident = await incidents.opened()
            await asyncio.to_thread(postgres.stop)
            refusal = await refused(incidents.get(incident.incident_id))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
            assert refusal.retry_after_seconds
            refusal = await refused(incidents.resolve(incident.incident_id, resolution_type=NO_ACTION))
            assert refusal.code is grpc.StatusCode.UNAVAILABLE
            await eventually(lambda: health(service.address), lambda status: status == NOT_SERVING)
            await asyncio.to_thread(postgres.start)
            await service.healthy()
            answer = await incidents.resolve(incident.incident_id, resolution_type=NO_ACTION)
            assert not answer.already_resolved
            async with connected(postgres.url("incident")) as rows:
                waiting = "SELECT count(*) FROM outbox WHERE state = 'PENDING'"
                await eventually(lambda: rows.fetchval(waiting), lambda count: count == 0)
    finally:
        await asyncio.to_thread(postgres.stop)
