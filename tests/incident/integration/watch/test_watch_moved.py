"""Watch over a database that was moved: the rows come from another cluster, whose transaction ids mean nothing here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from grpc import StatusCode

from incident.watch.repository import IncidentChanges
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from servicekit.watch.epoch import FIRST_EPOCH, Epochs
from tests.callers import Incidents, incidents_at
from tests.databases import empty_database
from tests.dumps import dump, own_cluster, restore
from tests.eventually import eventually
from tests.incident.incidents import token
from tests.incident.integration.watch.watching import Watcher, note, watching
from tests.rpc_errors import Refused, refused
from tests.services import healthy_service


async def use_up_ids(database: str) -> None:
    """Let the cluster assign many more transaction ids than the tests do otherwise."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("""
            DO $$ BEGIN
                CREATE TEMPORARY TABLE used (number integer);
                FOR number IN 1..3000 LOOP
                    BEGIN INSERT INTO used VALUES (number); EXCEPTION WHEN division_by_zero THEN NULL; END;
                END LOOP;
            END $$
        """)
    finally:
        await connection.close()


async def idle(database: str, watching_processes: int) -> None:
    """Return when each process that watches waits for a notification: then it polls once a second at most."""
    connection = await asyncpg.connect(database)

    async def waiting() -> bool:
        found: int = await connection.fetchval("""
            SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
            WHERE locktype = 'advisory' AND mode = 'ShareLock' AND datname = current_database()
        """)
        return found == watching_processes

    try:
        await eventually(waiting)
    finally:
        await connection.close()


async def resuming_refused(incidents: Incidents, given: str) -> Refused:
    return await refused(watching(incidents, resume_token=given))


@asynccontextmanager
async def moved(tmp_path: Path, *, user: str = "postgres") -> AsyncIterator[tuple[str, str]]:
    """A database with incidents that was dumped in one cluster and restored in a younger one, and a token from before."""
    file = tmp_path / "incident.dump"
    async with own_cluster(tmp_path / "old") as old:
        await asyncio.to_thread(old.create_database, "incident")
        url = old.url("incident")
        await use_up_ids(url)
        async with healthy_service("incident", url) as service, incidents_at(service.address) as incidents:
            given = (await watching(incidents)).token
            for _ in range(3):
                await incidents.opened()
        await dump(url, file)
    async with own_cluster(tmp_path / "new") as new:
        connection = await asyncpg.connect(new.url("postgres"))
        if user != "postgres":
            await connection.execute(f"CREATE ROLE {user} LOGIN")
            await connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system FROM PUBLIC")
        await connection.execute(f"CREATE DATABASE incident OWNER {user}")
        await connection.close()
        url = new.url("incident").replace("postgres@", f"{user}@")
        await restore(file, url)
        yield url, given


async def new_changes_only(incidents: Incidents, watchers: list[Watcher], database: str) -> None:
    """Assert that these watchers get what happens now and nothing that is old, also when the ids reach those of old."""
    incident = await incidents.opened()
    await use_up_ids(database)
    last = token()
    await note(incidents, incident.incident_id, last)
    for watcher in watchers:
        await watcher.until_event(last)
        assert {each.event.incident_id for each in watcher.changes} == {incident.incident_id}
        assert len(watcher.changes) == 2


async def test_replicas_on_a_moved_database_tell_new_changes_only_and_are_idle(tmp_path: Path) -> None:
    async with (
        moved(tmp_path) as (database, given),
        healthy_service("incident", database) as one,
        healthy_service("incident", database) as other,
        incidents_at(one.address) as first,
        incidents_at(other.address) as second,
    ):
        watchers = [await watching(incidents) for incidents in (first, second)]
        await idle(database, 2)
        for incidents in (first, second):
            refusal = await resuming_refused(incidents, given)
            assert (refusal.code, refusal.reason, refusal.fields) == (
                StatusCode.INVALID_ARGUMENT,
                "RESUME_TOKEN_OF_OTHER_DATABASE",
                ("resume_token",),
            )
        await new_changes_only(first, watchers, database)
        # Both replicas are in one epoch: what one gave, the other takes.
        await watching(second, resume_token=watchers[0].token)


async def test_without_the_right_to_read_the_clusters_identity_a_move_is_noticed(tmp_path: Path) -> None:
    async with (
        moved(tmp_path, user="app") as (database, given),
        healthy_service("incident", database) as service,
        incidents_at(service.address) as incidents,
    ):
        watcher = await watching(incidents)
        await idle(database, 1)
        assert (await resuming_refused(incidents, given)).reason == "RESUME_TOKEN_OF_OTHER_DATABASE"
        await new_changes_only(incidents, [watcher], database)


async def test_a_database_moved_before_the_service_knew_of_epochs_is_repaired(tmp_path: Path) -> None:
    async with moved(tmp_path) as (database, given):
        connection = await asyncpg.connect(database)
        await connection.execute("DELETE FROM watch_epoch")
        await connection.close()
        async with (
            healthy_service("incident", database) as service,
            incidents_at(service.address) as incidents,
        ):
            await idle_after_watching(incidents, database)
            assert (await resuming_refused(incidents, given)).reason == "RESUME_TOKEN_OF_OTHER_DATABASE"


async def idle_after_watching(incidents: Incidents, database: str) -> None:
    watcher = await watching(incidents)
    await idle(database, 1)
    assert watcher.changes == []


async def test_a_database_restored_beside_the_old_one_refuses_the_old_ones_tokens(
    database: str, tmp_path: Path
) -> None:
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        await incidents.opened()
        given = (await watching(incidents)).token
        # As long as the database stays, so do its tokens.
        await watching(incidents, resume_token=given)
    await dump(database, tmp_path / "incident.dump")
    async with empty_database() as restored:
        await restore(tmp_path / "incident.dump", restored)
        async with (
            healthy_service("incident", restored) as service,
            incidents_at(service.address) as incidents,
        ):
            assert (await resuming_refused(incidents, given)).reason == "RESUME_TOKEN_OF_OTHER_DATABASE"


async def test_processes_that_repair_at_once_in_small_batches_begin_one_epoch(database: str) -> None:
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        for _ in range(20):
            await incidents.opened()
    connection = await asyncpg.connect(database)
    engines = [create_engine(database, application_name="tests", pool_size=2) for _ in range(4)]
    try:
        before = await connection.fetchval("SELECT epoch FROM watch_epoch")
        await connection.execute("UPDATE incident_events SET xact_id = xact_id + (1 << 40)::bigint")
        processes = [
            Epochs(Transactions(engine, Outbox()), IncidentChanges.table, batch=3) for engine in engines
        ]
        found = await asyncio.gather(*(process.now() for process in processes))
        assert len({each.epoch for each in found}) == 1
        assert found[0].epoch not in (before, FIRST_EPOCH)
        assert await connection.fetchval("SELECT max(xact_id) FROM incident_events") == 0
        # Nothing is left to do: the next one begins no other epoch.
        assert (await processes[0].now()).epoch == found[0].epoch
    finally:
        await connection.close()
        await asyncio.gather(*(engine.dispose() for engine in engines))


async def test_a_repair_is_finished_after_the_death_of_the_process_that_began_it(database: str) -> None:
    async with healthy_service("incident", database) as service, incidents_at(service.address) as incidents:
        for _ in range(3):
            await incidents.opened()
    connection = await asyncpg.connect(database)
    engine = create_engine(database, application_name="tests", pool_size=2)
    try:
        # Its first batch was the newest ids; what is left could as well be this cluster's.
        await connection.execute("UPDATE watch_epoch SET epoch = 'begun', foreign_from = 1")
        assert (
            await Epochs(Transactions(engine, Outbox()), IncidentChanges.table, batch=1).now()
        ).epoch == "begun"
        assert await connection.fetchval("SELECT max(xact_id) FROM incident_events") == 0
        assert await connection.fetchval("SELECT foreign_from FROM watch_epoch") is None
    finally:
        await connection.close()
        await engine.dispose()
