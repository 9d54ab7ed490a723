"""Deliveries to the webhook and the notification URLs of a real service, as their receivers get them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import pytest_asyncio
from standardwebhooks import Webhook

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.databases import cloned_database
from tests.eventually import eventually
from tests.incident.incidents import NO_ACTION, token
from tests.incident.integration.effects.deliveries import (
    NOTIFICATION,
    SECRET,
    WEBHOOK,
    DeliveringService,
    delivering_service,
)
from tests.migrated import migrate_incident
from tests.outbox_due import make_due
from tests.receiver import receiver, status

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def delivering() -> AsyncIterator[DeliveringService]:
    """A service that the tests of this file share, one after the other."""
    async with (
        cloned_database("incident", migrate_incident) as database,
        receiver() as webhook,
        receiver() as people,
        receiver() as others,
        delivering_service(database, webhook, people, others) as running,
    ):
        yield running


async def test_a_resolution_is_delivered_to_the_webhook_and_to_every_notification_url(
    delivering: DeliveringService,
) -> None:
    title = f"disk full {token()}"
    incident = await delivering.resolved(title=title, labels={"host": "db-1"}, fingerprint=token())
    webhook = await delivering.effect(incident.incident_id, WEBHOOK, "DONE")
    await delivering.effect(incident.incident_id, NOTIFICATION, "DONE")

    (post,) = await delivering.posts(incident.incident_id)
    assert post.headers["webhook-id"] == post.headers["idempotency-key"] == webhook.delivery_id
    Webhook(SECRET.encode()).verify(post.body, dict(post.headers))
    content = post.content
    assert datetime.fromisoformat(content["open_time"]) == incident.create_time.ToDatetime(UTC)
    assert datetime.fromisoformat(content["resolve_time"]) == incident.resolve_time.ToDatetime(UTC)
    assert content | {"open_time": "", "resolve_time": "", "seconds_to_resolve": 0} == {
        "version": 1,
        "type": "incident.resolved",
        "delivery_id": webhook.delivery_id,
        "incident_id": incident.incident_id,
        "resolution_number": 1,
        "resolution_type": "HUMAN",
        "title": title,
        "severity": "HIGH",
        "source": "",
        "fingerprint": incident.fingerprint,
        "labels": {"host": "db-1"},
        "open_time": "",
        "resolve_time": "",
        "seconds_to_resolve": 0,
        "resolved_by": "operator",
        "approval_id": "",
        "action": "",
        "note": "observed",
    }
    for to in (delivering.people, delivering.others):
        (message,) = delivering.messages(to, title)
        assert message.startswith(f"{incident.incident_id}, severity HIGH\nHUMAN by operator, ")
    for effect in ("WEBHOOK", "NOTIFICATION"):
        assert await delivering.events(incident.incident_id, "EFFECT_DONE", effect) == [""]


async def test_a_failed_delivery_is_retried_with_the_same_delivery_id_and_body(
    delivering: DeliveringService,
) -> None:
    delivering.webhook.answers += [status(500), status(503)]
    incident = await delivering.resolved()
    effect = await delivering.effect(incident.incident_id, WEBHOOK, "DONE")
    posts = await delivering.posts(incident.incident_id)
    assert effect.attempts == len(posts) == 3
    assert {post.headers["webhook-id"] for post in posts} == {effect.delivery_id}
    assert len({post.body for post in posts}) == 1
    assert await delivering.events(incident.incident_id, "EFFECT_DONE", "WEBHOOK") == [""]


async def test_a_refused_delivery_is_a_dead_letter_and_done_after_a_retry(
    delivering: DeliveringService,
) -> None:
    delivering.webhook.answers.append(status(400, body=SECRET.encode()))
    incident = await delivering.resolved()
    parked = await delivering.effect(incident.incident_id, WEBHOOK, "PARKED")
    assert parked.last_error == "the receiver answered 400"
    assert await delivering.events(incident.incident_id, "EFFECT_PARKED", "WEBHOOK") == [parked.last_error]

    await delivering.incidents.retry_side_effect(incident.incident_id, effect=WEBHOOK)
    done = await delivering.effect(incident.incident_id, WEBHOOK, "DONE")
    posts = await delivering.posts(incident.incident_id)
    assert [post.headers["webhook-id"] for post in posts] == [parked.delivery_id] * 2
    assert done.attempts == 2
    assert await delivering.events(incident.incident_id, "EFFECT_DONE", "WEBHOOK") == [""]


async def test_retry_after_extends_the_backoff(delivering: DeliveringService) -> None:
    delivering.webhook.answers.append(status(429, headers={"Retry-After": "3000"}))
    incident = await delivering.resolved()
    request: dict[str, Any] = {"incident_id": incident.incident_id, "effects": [WEBHOOK]}

    async def question() -> incident_pb2.SideEffect:
        return (await delivering.incidents.list_side_effects(**request).page()).side_effects[0]

    effect = await eventually(question, lambda found: bool(found.last_error))
    assert effect.state == incident_pb2.SideEffect.STATE_PENDING
    assert effect.last_error == "the receiver answered 429"
    wait = effect.next_attempt_time.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(minutes=40) < wait <= timedelta(minutes=50)
    await make_due(delivering.rows)
    await delivering.effect(incident.incident_id, WEBHOOK, "DONE")


async def test_a_retry_notifies_only_receivers_that_were_not_notified(delivering: DeliveringService) -> None:
    delivering.others.answers += [status(502), status(404)]
    title = f"disk full {token()}"
    incident = await delivering.resolved(title=title)
    parked = await delivering.effect(incident.incident_id, NOTIFICATION, "PARKED")
    assert parked.last_error == "URL 2 (JSON): answered 404"
    await delivering.incidents.retry_side_effect(incident.incident_id, effect=NOTIFICATION)
    await delivering.effect(incident.incident_id, NOTIFICATION, "DONE")
    assert (
        len(delivering.messages(delivering.people, title)),
        len(delivering.messages(delivering.others, title)),
    ) == (1, 3)


async def test_the_next_resolution_has_a_delivery_id_of_its_own(delivering: DeliveringService) -> None:
    incident = await delivering.resolved()
    await delivering.effect(incident.incident_id, WEBHOOK, "DONE")
    await delivering.incidents.reopen(incident.incident_id, reason="it came back")
    await delivering.resolve(incident.incident_id)
    await delivering.effect(incident.incident_id, WEBHOOK, "DONE", number=2)
    assert [post.content["delivery_id"] for post in await delivering.posts(incident.incident_id)] == [
        f"{incident.incident_id}/webhook/1",
        f"{incident.incident_id}/webhook/2",
    ]


async def test_a_batch_of_resolutions_is_delivered_once_each(delivering: DeliveringService) -> None:
    incidents = await asyncio.gather(*(delivering.incidents.opened() for _ in range(40)))
    items = [
        pb.BatchResolveRequest.Item(incident_id=incident.incident_id, resolution_type=NO_ACTION)
        for incident in incidents
    ]
    await delivering.incidents.batch_resolve(items)
    for incident in incidents:
        await delivering.effect(incident.incident_id, WEBHOOK, "DONE")
        assert len(await delivering.posts(incident.incident_id)) == 1


async def test_no_secret_is_in_the_log_or_in_the_database(delivering: DeliveringService) -> None:
    delivering.webhook.answers += [
        status(500, body=SECRET.encode()),
        status(302, headers={"Location": f"/{SECRET}"}),
    ]
    delivering.people.answers += [status(500, body=SECRET.encode())]
    incident = await delivering.resolved()
    await delivering.effect(incident.incident_id, WEBHOOK, "DONE")
    await delivering.effect(incident.incident_id, NOTIFICATION, "DONE")
    assert delivering.service.events("outbox_attempt_failed")
    assert SECRET not in "".join(delivering.service.lines)
    kept = """
        SELECT count(*) FROM (SELECT outbox::text FROM outbox UNION ALL SELECT event::text FROM incident_events AS event)
            AS rows (text) WHERE text LIKE $1
    """
    assert await delivering.rows.fetchval(kept, f"%{incident.incident_id}%") > 0
    assert await delivering.rows.fetchval(kept, f"%{SECRET}%") == 0
