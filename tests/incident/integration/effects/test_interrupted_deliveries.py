"""Deliveries in flight when the process is killed or stopped."""

import signal
from typing import TYPE_CHECKING

import asyncpg
import pytest

from awoooi.incident.v1 import incident_pb2
from tests.databases import cloned_database
from tests.eventually import eventually
from tests.incident.integration.effects.deliveries import WEBHOOK, DeliveringService, delivering_service
from tests.migrated import migrate_incident
from tests.outbox_due import make_due
from tests.receiver import Held, Received, receiver, status

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.asyncio(loop_scope="module")

BLOCKED = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def end_leases(rows: "Connection") -> None:
    """End every lease and backoff."""
    await make_due(rows)


async def killed_and_started_again(
    delivering: DeliveringService, incident_id: str, database: str
) -> tuple[list[Received], incident_pb2.SideEffect, list[str]]:
    """Kill the service, start another one, and return the webhook's requests, the effect once DONE, and its events."""
    delivering.service.send(signal.SIGKILL)
    assert await delivering.service.ended() == -signal.SIGKILL
    await end_leases(delivering.rows)
    async with delivering_service(
        database, delivering.webhook, delivering.people, delivering.others
    ) as again:
        effect = await again.effect(incident_id, WEBHOOK, "DONE")
        return (
            await again.posts(incident_id),
            effect,
            await again.events(incident_id, "EFFECT_DONE", "WEBHOOK"),
        )


@pytest.mark.parametrize("answered", [False, True], ids=["before the response", "before the mark"])
async def test_a_delivery_interrupted_by_a_kill_is_repeated_with_the_same_delivery_id(answered: bool) -> None:
    async with (
        cloned_database("incident", migrate_incident) as database,
        receiver() as webhook,
        receiver() as people,
        receiver() as others,
        delivering_service(database, webhook, people, others) as delivering,
    ):
        held = Held(status(204))
        webhook.answers.append(held)
        incident = await delivering.resolved()
        await webhook.received(1)
        if answered:
            # Its mark waits for this lock.
            locking = await asyncpg.connect(database)
            await locking.execute("BEGIN; SELECT FROM outbox WHERE topic = 'effect.webhook' FOR UPDATE")
            held.release.set()
            await eventually(lambda: delivering.rows.fetchval(BLOCKED))
            delivering.service.send(signal.SIGKILL)
            await delivering.service.ended()
            await locking.close()
        posts, effect, done = await killed_and_started_again(delivering, incident.incident_id, database)
        assert [post.headers["webhook-id"] for post in posts] == [effect.delivery_id] * 2
        assert posts[0].body == posts[1].body
        assert effect.attempts == 2
        assert done == [""]


@pytest.mark.slow
async def test_a_receiver_that_hangs_does_not_block_a_graceful_stop_and_its_lease_is_released() -> None:
    async with (
        cloned_database("incident", migrate_incident) as database,
        receiver() as webhook,
        receiver() as people,
        receiver() as others,
        delivering_service(
            database, webhook, people, others, INCIDENT_NOTIFY_URLS=f"json://127.0.0.1:{people.port}/?rto=600"
        ) as delivering,
    ):
        webhook.answers.append(Held(status(204)))
        people.answers.append(Held(status(204)))
        await delivering.resolved()
        await webhook.received(1)
        await people.received(1)
        delivering.service.send(signal.SIGTERM)
        assert await delivering.service.ended() == 0
        # Released for the next process.
        assert (
            await delivering.rows.fetchval("SELECT count(*) FROM outbox WHERE lease_token IS NOT NULL") == 0
        )
