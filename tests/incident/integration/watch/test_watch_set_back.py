"""Watch over a database that was set back in place: its ids and sequence numbers are given a second time."""

import asyncio
import shutil
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from incident.lifecycle.retention import remove_old
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from servicekit.retention import remove_batch
from tests.callers import incidents_at
from tests.dumps import own_cluster
from tests.incident.incidents import effects_settled, token
from tests.incident.integration.watch.watching import note, watching
from tests.rpc_errors import refused
from tests.services import healthy_service


@pytest.mark.slow
async def test_a_token_from_after_the_backup_is_refused_also_when_the_database_has_caught_up(
    tmp_path: Path,
) -> None:
    cluster, backup = tmp_path / "cluster", tmp_path / "backup"
    async with own_cluster(cluster) as server:
        await asyncio.to_thread(server.create_database, "incident")
        url = server.url("incident")
        async with healthy_service("incident", url) as service, incidents_at(service.address) as incidents:
            incident_id = await incidents.opened_id()
            earlier = (await watching(incidents)).token
    shutil.copytree(cluster, backup)
    async with own_cluster(cluster) as server:
        url = server.url("incident")
        async with healthy_service("incident", url) as service, incidents_at(service.address) as incidents:
            watcher = await watching(incidents, resume_token=earlier)
            await note(incidents, incident_id, "note", summary="before")
            await watcher.change()
            change = watcher.token
            idle = (await watching(incidents)).token
    shutil.rmtree(cluster)
    shutil.copytree(backup, cluster)
    async with own_cluster(cluster) as server:
        url = server.url("incident")
        async with healthy_service("incident", url) as service, incidents_at(service.address) as incidents:
            # The same event again, and many more after it.
            ids = ["note", *(token() for _ in range(50))]
            for event_id in ids:
                await note(incidents, incident_id, event_id, summary="after")
            for given in (change, idle):
                found = await refused(watching(incidents, resume_token=given))
                assert found.reason == "RESUME_TOKEN_AHEAD"
            resumed = await watching(incidents, resume_token=earlier)
            assert await resumed.until_event(ids[-1]) == ids


async def test_a_token_whose_last_event_was_removed_by_retention_is_taken(database: str) -> None:
    engine = create_engine(database, application_name="tests", pool_size=2)
    connection = await asyncpg.connect(database)
    try:
        async with (
            healthy_service("incident", database) as service,
            incidents_at(service.address) as incidents,
        ):
            kept = await incidents.opened_id()
            await incidents.resolved()
            await effects_settled(connection)
            given = (await watching(incidents)).token
            await connection.execute(
                "UPDATE incidents SET resolve_time = now() - interval '90 days' WHERE state = 'RESOLVED'"
            )
            keep = await connection.fetchval("SELECT interval '30 days'")
            removal = await remove_batch(Transactions(engine, Outbox()), partial(remove_old, keep=keep))
            assert removal.removed == 1
            resumed = await watching(incidents, resume_token=given)
            last = token()
            await note(incidents, kept, last)
            assert await resumed.until_event(last) == [last]
    finally:
        await connection.close()
        await engine.dispose()
