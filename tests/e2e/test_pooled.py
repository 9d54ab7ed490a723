"""The whole loop behind a real PgBouncer in transaction mode, with fewer sessions than one process has connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import asyncpg
import pytest

from awoooi.client import CallError
from tests.approval.schemas import approval_database, incident_database, rows
from tests.callers import NO_ACTION, Approvals, Incidents, State, approvals_at, incidents_at
from tests.e2e.once import assert_resolved_once, noops_counted
from tests.incident.integration.watch.watching import type_name
from tests.incident.integration.watch.watching import watching as watching_incidents
from tests.pgbouncer import PgBouncer, pgbouncer
from tests.services import TIMEOUT_SECONDS, RunningService, healthy_service, running_service

SESSIONS = 2
INCIDENTS = 6
# The sessions that the pooler lends, and the services' own.
SERVERS = """
    SELECT count(*) FILTER (WHERE application_name NOT LIKE '%-sessions'),
        count(*) FILTER (WHERE application_name LIKE '%-sessions')
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class Pooled(NamedTuple):
    """Two processes of each service, and their databases, without the pooler."""

    incident_url: str
    approval_url: str
    incidents: list[Incidents]
    approvals: list[Approvals]


def _variables(service: str, direct_url: str) -> dict[str, str]:
    return {f"{service}_DATABASE_POOLING": "transaction", f"{service}_DATABASE_DIRECT_URL": direct_url}


@asynccontextmanager
async def _pooled(pooler: PgBouncer) -> AsyncIterator[Pooled]:
    async with (
        incident_database() as incident_url,
        approval_database() as approval_url,
        AsyncExitStack() as stack,
    ):

        async def two(service: str, url: str, variables: dict[str, str]) -> list[RunningService]:
            starting = (
                healthy_service(
                    service, pooler.url(url), variables=_variables(service.upper(), url) | variables
                )
                for _ in range(2)
            )
            return [await stack.enter_async_context(each) for each in starting]

        incident = await two("incident", incident_url, {"INCIDENT_DATABASE_READ_TIMEOUT": "100ms"})
        approval = await two("approval", approval_url, {"APPROVAL_INCIDENT_TARGET": incident[0].address})
        yield Pooled(
            incident_url,
            approval_url,
            [await stack.enter_async_context(incidents_at(each.address)) for each in incident],
            [await stack.enter_async_context(approvals_at(each.address)) for each in approval],
        )


async def test_the_loop_turns_through_fewer_sessions_than_connections() -> None:
    with pgbouncer(pool_size=SESSIONS) as pooler:
        async with _pooled(pooler) as services:
            incidents, watching = services.incidents
            async with asyncio.timeout(TIMEOUT_SECONDS):
                watcher = await watching_incidents(watching)
                ids = await asyncio.gather(*(incidents.opened_id() for _ in range(INCIDENTS)))
                approved = await asyncio.gather(
                    *(
                        services.approvals[number % 2].approved(each, NO_ACTION)
                        for number, each in enumerate(ids)
                    )
                )
                executed = await asyncio.gather(
                    *(
                        services.approvals[number % 2].execute(each.approval_id)
                        for number, each in enumerate(approved)
                    )
                )
                assert {each.approval.state for each in executed} == {State.STATE_SUCCEEDED}
                for each in approved:
                    await services.approvals[0].until_delivered(each.approval_id)
                resolved: set[str] = set()
                while resolved < set(ids):
                    event = (await watcher.change()).event
                    if type_name(event) == "RESOLVED":
                        resolved.add(event.incident_id)
            await assert_resolved_once(services.incident_url, ids)
            noops = await noops_counted(services.approval_url)
            assert (noops.executions, noops.resolutions) == (INCIDENTS, INCIDENTS)
            found = (await watching.stats()).resolutions.postmortems_24h
            assert sum(each.count for each in found) == INCIDENTS
            # Each process listens for jobs, and one watches.
            for url, expected in ((services.incident_url, 3), (services.approval_url, 2)):
                ((lent, own),) = await rows(url, SERVERS)
                assert lent <= SESSIONS
                assert own == expected
            await _assert_reads_are_bounded(services)


async def _assert_reads_are_bounded(services: Pooled) -> None:
    """A List that cannot have its rows ends after its own bound, which is not that of other statements."""
    connection = await asyncpg.connect(services.incident_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE incidents")
            with pytest.raises(CallError) as caught:
                [each async for each in services.incidents[0].list()]
    finally:
        await connection.close()
    assert caught.value.reason == "READ_TOO_LONG"
    assert [each async for each in services.incidents[0].list()]


@pytest.mark.parametrize("service", ["incident", "approval"])
def test_without_a_direct_url_a_service_does_not_start(service: str) -> None:
    prefix = service.upper()
    variables = {f"{prefix}_DATABASE_POOLING": "transaction"}
    with (
        pytest.raises(AssertionError, match=f"{prefix}_DATABASE_DIRECT_URL: must be set with"),
        running_service(service, "postgresql://u@127.0.0.1:1/x", variables=variables),
    ):
        pass
