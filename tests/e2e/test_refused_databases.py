"""A database that a service cannot use: why is logged once, in the server's own words, and nothing is changed."""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from awoooi.client import UnavailableError
from tests.approval.schemas import approval_database, contents, incident_database, rows
from tests.callers import approvals_at, incidents_at
from tests.databases import empty_database
from tests.services import ServiceProcess, healthy_service, running_service

INCIDENT_LINE = (
    '{"kind": "incident", "incident_id": "INC-20250507-0000AA", "title": "t", "severity": "LOW", "state": "OPEN",'
    ' "create_time": "2025-05-07T10:00:00Z"}\n'
)


async def run(package: str, *arguments: str, **variables: str) -> tuple[int, list[str]]:
    """The exit code of a command and what it said on standard error."""
    process = await asyncio.to_thread(ServiceProcess, package, arguments, variables)
    try:
        return await process.ended(), process.lines
    finally:
        await asyncio.to_thread(process.kill)


@asynccontextmanager
async def role(url: str) -> AsyncIterator[str]:
    """The URL of a database for a role that may connect to it and nothing else."""
    (count,) = (await rows(url, "SELECT count(*) FROM pg_roles"))[0]
    name = f"svc{count}_{abs(hash(url)) % 10**8}"
    await rows(url, f"CREATE ROLE {name} LOGIN")
    try:
        yield re.sub(r"//[^@]*@", f"//{name}@", url)
    finally:
        await rows(url, f"DROP OWNED BY {name}")
        await rows(url, f"DROP ROLE {name}")


@asynccontextmanager
async def missing_database() -> AsyncIterator[tuple[str, str]]:
    async with empty_database() as url:
        name = url.partition("?")[0].rpartition("/")[2]
        yield url.replace(name, "no_such"), 'database "no_such" does not exist'


@asynccontextmanager
async def missing_role() -> AsyncIterator[tuple[str, str]]:
    async with empty_database() as url:
        yield re.sub(r"//[^@]*@", "//nobody@", url), 'role "nobody" does not exist'


@asynccontextmanager
async def missing_rights() -> AsyncIterator[tuple[str, str]]:
    async with empty_database() as url, role(url) as limited:
        yield limited, "permission denied for schema public"


@asynccontextmanager
async def limited_rights() -> AsyncIterator[tuple[str, str]]:
    async with incident_database() as url, role(url) as limited:
        yield limited, "permission denied for table alembic_version"


@asynccontextmanager
async def read_only() -> AsyncIterator[tuple[str, str]]:
    async with empty_database() as url:
        yield (
            f"{url}&default_transaction_read_only=on",
            "cannot execute CREATE TABLE in a read-only transaction",
        )


@asynccontextmanager
async def no_host_matches() -> AsyncIterator[tuple[str, str]]:
    async with empty_database() as url:
        yield (
            f"{url}&target_session_attrs=standby",
            "None of the hosts match the target attribute requirement",
        )


# Gives a database's URL, and the words that say what is wrong with it.
Cause = Callable[[], AbstractAsyncContextManager[tuple[str, str]]]

MIGRATE: Mapping[str, Cause] = {
    "missing database": missing_database,
    "missing role": missing_role,
    "missing rights": missing_rights,
    "limited rights": limited_rights,
    "read-only": read_only,
    "no host matches": no_host_matches,
}


@pytest.mark.parametrize("cause", MIGRATE.values(), ids=MIGRATE.keys())
async def test_why_a_migration_is_refused_is_one_line_in_the_servers_words(cause: Cause) -> None:
    async with cause() as (url, words):
        code, said = await run("incident", "migrate", INCIDENT_DATABASE_URL=url)
    assert code == 1
    assert len(said) == 1
    assert said[0].startswith("INCIDENT_DATABASE_URL: the database ")
    assert words in said[0]


@pytest.mark.parametrize(
    "cause", [missing_database, missing_role, limited_rights], ids=lambda cause: cause.__name__
)
async def test_why_an_import_is_refused_is_one_line_in_the_servers_words(
    cause: Cause, tmp_path: Path
) -> None:
    (tmp_path / "lines.jsonl").write_text(INCIDENT_LINE)
    async with cause() as (url, words):
        code, said = await run("incident", "import", str(tmp_path / "lines.jsonl"), INCIDENT_DATABASE_URL=url)
    assert code == 1
    assert len(said) == 1
    assert said[0].startswith("INCIDENT_DATABASE_URL: the database ")
    assert words in said[0]


SERVE: Mapping[str, Cause] = {
    "missing database": missing_database,
    "missing role": missing_role,
    "limited rights": limited_rights,
    "no host matches": no_host_matches,
}


@pytest.mark.parametrize("cause", SERVE.values(), ids=SERVE.keys())
async def test_why_the_database_refuses_a_running_service_is_logged_once(cause: Cause) -> None:
    async with cause() as (url, words):
        variables = {"INCIDENT_LISTEN": "127.0.0.1:0", "INCIDENT_DATABASE_URL": url}
        process = await asyncio.to_thread(ServiceProcess, "incident", ["serve"], variables)
        try:
            address = (await process.logged("serving"))["address"]
            await process.logged("health_check_failed")
            # Some rounds of every loop.
            await asyncio.sleep(4)
            async with incidents_at(address) as incidents:
                with pytest.raises(UnavailableError) as caught:
                    await incidents.get("INC-20250507-0000AA")
            assert words not in str(caught.value)
            process.send(signal.SIGTERM)
            assert await process.ended() == 0
        finally:
            await asyncio.to_thread(process.kill)
    said = "".join(process.lines)
    assert said.count(words.split('"')[0]) == 1, said
    (failed,) = process.events("health_check_failed")
    assert failed["reason"].startswith(words)
    assert "Traceback" not in said


async def test_a_start_waits_for_a_database_in_fail_over_and_ends_at_sigterm() -> None:
    """With --migrate, which needs the database first: as a supervised service does after it was killed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    variables = {
        "INCIDENT_LISTEN": "127.0.0.1:0",
        "INCIDENT_DATABASE_URL": f"postgresql://u:hunter2@127.0.0.1:{port}/x",
    }
    process = await asyncio.to_thread(ServiceProcess, "incident", ["serve", "--migrate"], variables)
    try:
        waiting = await process.logged("migration_waits_for_database")
        assert "Errno 111" in waiting["reason"]
        await asyncio.sleep(2)
        process.send(signal.SIGTERM)
        assert await process.ended() == 0
    finally:
        await asyncio.to_thread(process.kill)
    said = "".join(process.lines)
    assert len(process.events("migration_waits_for_database")) == 1
    assert "Traceback" not in said
    assert "hunter2" not in said


async def test_a_start_that_is_refused_ends_at_once() -> None:
    async with missing_database() as (url, words):
        variables = {"INCIDENT_LISTEN": "127.0.0.1:0", "INCIDENT_DATABASE_URL": url}
        code, said = await run("incident", "serve", "--migrate", **variables)
    assert code == 1
    assert said == [f"INCIDENT_DATABASE_URL: the database cannot be reached: {words}\n"]


async def test_while_no_host_is_read_write_calls_are_unavailable_and_afterwards_succeed() -> None:
    async with incident_database() as url, empty_database() as administered:
        database = url.partition("?")[0].rpartition("/")[2]

        async def switch(*, read_only: bool) -> None:
            value = "on" if read_only else "off"
            await rows(
                administered, f'ALTER DATABASE "{database}" SET default_transaction_read_only = {value}'
            )
            await rows(
                administered,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
                database,
            )

        async with (
            healthy_service("incident", f"{url}&target_session_attrs=read-write") as service,
            incidents_at(service.address) as incidents,
        ):
            await incidents.opened_id()
            await switch(read_only=True)

            for _ in range(5):
                with pytest.raises(UnavailableError):
                    await incidents.opened_id()
            failed = await service.logged("health_check_failed")
            assert failed["reason"].startswith("None of the hosts match")
            await switch(read_only=False)
            await service.healthy()
            await incidents.opened_id()


PACKAGES = {
    "approval on an incident database": ("approval", incident_database, "approvals"),
    "incident on an approval database": ("incident", approval_database, "incidents"),
}


@pytest.mark.parametrize(("package", "database", "table"), PACKAGES.values(), ids=PACKAGES.keys())
async def test_the_other_services_database_is_refused_and_left_as_it_is(
    package: str,
    database: Callable[[], AbstractAsyncContextManager[str]],
    table: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "lines.jsonl").write_text(INCIDENT_LINE)
    commands: Sequence[Sequence[str]] = (
        ["serve"],
        ["serve", "--migrate"],
        ["migrate"],
        ["import", str(tmp_path / "lines.jsonl")],
        ["import", "--migrate", str(tmp_path / "lines.jsonl")],
    )
    async with database() as url:
        # A job that is done for long: a janitor of any service would remove it.
        await rows(
            url,
            """
            INSERT INTO outbox (topic, dedup_key, payload, state, done_time)
            VALUES ('of_nobody', 'k', '{}', 'DONE', now() - interval '1 year')
            """,
        )
        before = await contents(url)
        variable = f"{package.upper()}_DATABASE_URL"
        variables = {variable: url, f"{package.upper()}_LISTEN": "127.0.0.1:0"}
        for command in commands:
            code, said = await run(package, *command, **variables)
            assert code == 1, command
            assert said == [
                f"{variable}: it is the database of another service: it was migrated and has no table {table}\n"
            ], command
        assert await contents(url) == before


async def test_a_database_that_becomes_another_services_is_never_served() -> None:
    """It was not there when the service started; then it is, and is the wrong one."""
    async with incident_database() as url:
        name = url.partition("?")[0].rpartition("/")[2]
        await rows(url.replace(name, "postgres"), f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        variables = {"APPROVAL_LISTEN": "127.0.0.1:0", "APPROVAL_DATABASE_URL": url}
        process = await asyncio.to_thread(ServiceProcess, "approval", ["serve"], variables)
        try:
            address = (await process.logged("serving"))["address"]
            await process.logged("health_check_failed", error="DatabaseUnavailableError")
            await rows(url.replace(name, "postgres"), f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
            before = await contents(url)
            await process.logged("health_check_failed", error="ForeignDatabaseError")
            async with grpc.aio.insecure_channel(address) as channel, approvals_at(address):
                health = await HealthStub(channel).Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]  # no stubs
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
            await asyncio.sleep(2)
            assert await contents(url) == before
        finally:
            await asyncio.to_thread(process.kill)


async def test_an_older_version_has_nothing_to_migrate_and_serves_on_a_newer_schema(tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text(INCIDENT_LINE)
    async with incident_database() as url:
        await rows(url, "UPDATE alembic_version SET version_num = '0099'")
        code, said = await run("incident", "migrate", INCIDENT_DATABASE_URL=url)
        assert code == 0
        (line,) = said
        assert "migration_not_needed" in line
        assert "migrated by a newer version" in line
        imported, _ = await run(
            "incident", "import", "--migrate", str(tmp_path / "lines.jsonl"), INCIDENT_DATABASE_URL=url
        )
        assert imported == 0
        with running_service("incident", url) as service:
            await service.healthy()
            async with incidents_at(service.address) as incidents:
                assert (await incidents.get("INC-20250507-0000AA")).title == "t"
        assert await rows(url, "SELECT version_num FROM alembic_version") == [("0099",)]
