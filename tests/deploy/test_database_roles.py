"""docker-compose's roles in the database: the services run without DDL, and can only append to their audit trails."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from flywheel.postgres.binaries import find_binaries, program_environment
from flywheel.postgres.embedded import EmbeddedPostgres
from incident.lifecycle.retention import remove_old
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from servicekit.retention import remove_batch
from tests.audit_trail import problems, records
from tests.callers import approvals_at, incidents_at
from tests.dumps import own_cluster
from tests.imports import approval as approval_line
from tests.imports import incident as incident_line
from tests.imports import write_lines
from tests.incident.side_effects import ended
from tests.services import healthy_service, without_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEPLOY = Path(__file__).parents[2] / "deploy" / "docker"
SERVICES = ("incident", "approval")


@dataclass(frozen=True)
class Cluster:
    """A cluster with the roles of docker-compose, migrated as there."""

    server: EmbeddedPostgres
    secrets: Path

    def url(self, service: str, role: str = "postgres") -> str:
        """The URL of a service's database for a role."""
        parts = urlsplit(self.server.url(service))
        return urlunsplit(parts._replace(netloc=f"{role}@"))

    def variables(self, service: str) -> Mapping[str, str]:
        """What the migration's container has in its environment."""
        prefix = service.upper()
        return {
            f"{prefix}_DATABASE_URL": self.url(service, service),
            f"{prefix}_OWNER_DATABASE_URL": self.url(service, f"{service}_owner"),
        }

    async def make_roles(self) -> None:
        """Run the script of the PostgreSQL container."""
        address = parse_qs(urlsplit(self.server.url("postgres")).query)
        environment = {
            **program_environment(),
            "PATH": f"{find_binaries().directory}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": address["host"][0],
            "PGPORT": address["port"][0],
            "SECRETS_DIR": str(self.secrets),
        }
        await _run(["bash", str(DEPLOY / "init-databases.sh")], environment)

    async def service(self, service: str, *arguments: str) -> str:
        """Run a command of a service with both URLs."""
        command = [sys.executable, "-m", service, *arguments]
        return await _run(command, {**without_settings(), **self.variables(service)})


async def _run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """The incident database is of an older stack, with one role; the approval database is new."""
    directory = tmp_path_factory.mktemp("roles")
    secrets = directory / "secrets"
    await _run(["bash", str(DEPLOY / "make-secrets"), str(secrets)], os.environ)
    async with own_cluster(directory / "postgres") as server:
        found = Cluster(server, secrets)
        await execute(
            server.url("postgres"),
            "CREATE ROLE incident LOGIN",
            "CREATE DATABASE incident OWNER incident",
        )
        url = found.url("incident", "incident")
        await _run(
            [sys.executable, "-m", "incident", "migrate"],
            {**without_settings(), "INCIDENT_DATABASE_URL": url},
        )
        # The second time changes nothing.
        for _ in range(2):
            await found.make_roles()
            for service in SERVICES:
                await found.service(service, "migrate")
        yield found


@pytest.mark.parametrize(
    ("service", "statement"),
    [
        ("incident", "UPDATE audit_records SET actor = 'nobody'"),
        ("incident", "DELETE FROM audit_records"),
        ("incident", "TRUNCATE audit_records"),
        ("incident", "INSERT INTO audit_records SELECT * FROM audit_records"),
        ("incident", "UPDATE audit_chains SET sequence = 0"),
        ("incident", "DELETE FROM audit_chains"),
        ("incident", "SELECT audit_prune(now())"),
        ("incident", "UPDATE incident_events SET summary = ''"),
        ("incident", "DELETE FROM incident_events"),
        ("incident", "TRUNCATE incident_events"),
        ("incident", "ALTER TABLE incident_events DISABLE TRIGGER ALL"),
        ("incident", "DROP TABLE incident_events"),
        ("incident", "CREATE TABLE mine (id int)"),
        ("incident", "CREATE SCHEMA mine"),
        ("incident", "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        ("incident", "SET session_replication_role = replica"),
        ("incident", "UPDATE alembic_version SET version_num = '0001'"),
        ("approval", "UPDATE audit_records SET actor = 'nobody'"),
        ("approval", "UPDATE approval_decisions SET actor = 'nobody'"),
        ("approval", "DELETE FROM approval_decisions"),
        ("approval", "UPDATE auto_repair_executions SET succeeded = TRUE"),
        ("approval", "DELETE FROM auto_repair_executions"),
        ("approval", "DELETE FROM approvals"),
        ("approval", "DROP FUNCTION audit_append"),
    ],
)
async def test_the_role_that_serves_may_not(cluster: Cluster, service: str, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(cluster.url(service, service), statement)


@pytest.mark.parametrize(
    "other", [("incident", "approval"), ("approval", "incident_owner")], ids=lambda pair: pair[1]
)
async def test_a_role_cannot_connect_to_the_other_service_s_database(
    cluster: Cluster, other: tuple[str, str]
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(cluster.url(*other), "SELECT 1")


async def test_a_temporary_table_of_the_role_that_serves_is_not_appended_to(cluster: Cluster) -> None:
    """The function runs as the owner: what the caller puts in front of its tables must not count."""
    url = cluster.url("incident", "incident")
    before = len(await records(cluster.url("incident")))
    await execute(
        url,
        "CREATE TEMPORARY TABLE audit_records (LIKE audit_records)",
        "SELECT audit_append(0::smallint, ARRAY['x'], ARRAY['system'], ARRAY['background/x'], ARRAY[''],"
        " ARRAY['CHANGED'], ARRAY['OK'], ARRAY[''], ARRAY[''], ARRAY[1::bigint])",
    )
    assert len(await records(cluster.url("incident"))) == before + 1
    assert await problems(url, "incident") == []


async def test_the_function_that_removes_approvals_leaves_what_still_counts(cluster: Cluster) -> None:
    """It runs as the owner: what its caller claims about an approval does not matter."""
    url = cluster.url("approval", "approval")
    insert = """
        INSERT INTO approvals (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, hook,
            parse_error, action_hash, risk, rationale, required_approvals, auto_execute, state, proposed_by,
            incident_verified, expire_time, finish_time, content_hash)
        SELECT 'APR-kept-' || number, 'INC-1', 'x', 'NO_ACTION', '', '', '', '', '', '', 'LOW', '', 1, false, state, '',
            false, now(), finish_time, ''
        FROM (VALUES (1, 'PENDING', NULL), (2, 'INDETERMINATE', now() - interval '1 year'),
            (3, 'SUCCEEDED', now() - interval '1 year'), (4, 'FAILED', now() - interval '23 hours'))
            AS kept (number, state, finish_time)
    """
    remove = """
        SELECT * FROM remove_approvals(
            ARRAY(SELECT approval_id FROM approvals), ARRAY(SELECT version FROM approvals))
    """
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(insert)
        assert await connection.fetch(remove) == []
        # The same approvals, once they are of yesterday or acknowledged.
        await connection.execute(
            "UPDATE approvals SET incident_resolve_time = now(), finish_time = finish_time - interval '1 year'"
            " WHERE approval_id LIKE 'APR-kept-%'"
        )
        removed = {row["approval_id"] for row in await connection.fetch(remove)}
        assert removed == {"APR-kept-3", "APR-kept-4"}
    finally:
        await transaction.rollback()
        await connection.close()


async def test_the_services_do_all_their_work_as_roles_without_ddl(cluster: Cluster, tmp_path: Path) -> None:
    urls = {service: cluster.url(service, service) for service in SERVICES}
    history = write_lines(tmp_path / "history.jsonl", incident_line(), approval_line())
    for service in SERVICES:
        await cluster.service(service, "import", str(history))
    async with (
        healthy_service("incident", urls["incident"]) as incident,
        incidents_at(incident.address) as incidents,
        healthy_service(
            "approval", urls["approval"], variables={"APPROVAL_INCIDENT_TARGET": incident.address}
        ) as approval,
        approvals_at(approval.address) as approvals,
    ):
        executed = await approvals.executed(await incidents.opened_id())
        await approvals.until_delivered(executed.approval_id)
        incident_id = executed.incident_id
        await incidents.reopen(incident_id, reason="it came back")
        await incidents.resolve(incident_id, resolution_type="HUMAN")
        # An incident stays as long as an effect of it is PENDING.
        await ended(incidents, incident_id, number=2)
        assert [each async for each in incidents.list_events(incident_id)]
        await approvals.reconcile()
        await approvals.stats("FULL")
        await incidents.stats("FULL")
    engine = create_engine(urls["incident"], application_name="tests", pool_size=1)
    try:
        removal = await remove_batch(
            Transactions(engine, Outbox()), partial(remove_old, keep=timedelta(0), limit=100)
        )
        assert removal.removed
    finally:
        await engine.dispose()
    assert await records(urls["incident"], incident_id, operation="background/retention")
    for service in SERVICES:
        (imported,) = await records(urls[service], operation="command/import")
        assert (imported["actor"], imported["method"]) == (f"service:{service}", "system")
        assert await problems(urls[service], service) == []
