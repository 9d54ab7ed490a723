"""Webhook, notification and postmortem of a real service, connected by what its receivers and its callers see."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc.aio
import pytest
import pytest_asyncio
from standardwebhooks import Webhook

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.databases import cloned_database
from tests.eventually import eventually
from tests.incident.incidents import HUMAN, NO_ACTION, incident_stub, opened, token
from tests.migrated import migrate_incident
from tests.receiver import Held, Received, Receiver, receiver, status
from tests.services import RunningService, ServiceProcess, healthy_service

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "sesame-open-yourself"
POSTMORTEM = incident_pb2.SideEffect.EFFECT_POSTMORTEM
NOTIFICATION = incident_pb2.SideEffect.EFFECT_NOTIFICATION
WEBHOOK = incident_pb2.SideEffect.EFFECT_WEBHOOK
DUPLICATE = incident_pb2.RESOLUTION_TYPE_DUPLICATE
BLOCKED = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
TEMPLATE = "# Ours: {{ title }}\n{% if 'explode' in title %}\n{{ 1 // 0 }}\n{% endif %}\n"


@dataclass(frozen=True)
class ConnectedService:
    """A service, and those whom it tells."""

    service: RunningService
    stub: "IncidentServiceAsyncStub"
    rows: "Connection"
    webhook: Receiver
    people: Receiver
    others: Receiver

    async def resolved(
        self, *, resolution_type: incident_pb2.ResolutionType.ValueType = HUMAN, **fields: Any
    ) -> incident_pb2.Incident:
        """Open an incident and resolve it."""
        incident = await opened(self.stub, **fields)
        return await self.resolve(incident.incident_id, resolution_type)

    async def resolve(
        self, incident_id: str, resolution_type: incident_pb2.ResolutionType.ValueType = HUMAN
    ) -> incident_pb2.Incident:
        request = pb.ResolveRequest(incident_id=incident_id, resolution_type=resolution_type, note="observed")
        return (await self.stub.Resolve(request)).incident

    async def effect(
        self,
        incident_id: str,
        effect: incident_pb2.SideEffect.Effect.ValueType,
        state: str,
        *,
        number: int = 1,
    ) -> incident_pb2.SideEffect:
        """Return a side effect as soon as it is in a state."""
        request = pb.ListSideEffectsRequest(incident_id=incident_id, effects=[effect])

        async def question() -> incident_pb2.SideEffect:
            found = (await self.stub.ListSideEffects(request)).side_effects
            return next(each for each in found if each.resolution_number == number)

        wanted = incident_pb2.SideEffect.State.Value(f"STATE_{state}")
        return await eventually(question, lambda found: found.state == wanted)

    async def events(self, incident_id: str, event_type: str, effect: str) -> list[str]:
        """The summaries of an incident's events of a type about an effect."""
        wanted = incident_pb2.IncidentEvent.Type.Value(f"TYPE_{event_type}")
        answer = await self.stub.ListEvents(pb.ListEventsRequest(incident_id=incident_id, types=[wanted]))
        return [event.summary for event in answer.events if event.attributes["effect"] == effect]

    async def posts(self, incident_id: str) -> list[Received]:
        """What the webhook's receiver was sent about an incident."""
        return [each for each in self.webhook.requests if each.content["incident_id"] == incident_id]

    def messages(self, to: Receiver, title: str) -> list[str]:
        """The messages under a title that a receiver was sent."""
        return [
            each.content["message"] for each in to.requests if each.content["title"] == f"Resolved: {title}"
        ]


def settings(webhook: Receiver, people: Receiver, others: Receiver) -> Mapping[str, str]:
    return {
        "INCIDENT_WEBHOOK_URL": webhook.url(f"/{SECRET}"),
        "INCIDENT_WEBHOOK_SECRET": SECRET,
        "INCIDENT_NOTIFY_URLS": ", ".join(f"json://127.0.0.1:{to.port}/{SECRET}/" for to in (people, others)),
        "INCIDENT_NOTIFY_SKIP": "DUPLICATE",
        "INCIDENT_POSTMORTEM_SKIP": "DUPLICATE",
        "INCIDENT_LOG_LEVEL": "DEBUG",
    }


@asynccontextmanager
async def connected_service(
    database: str, *receivers: Receiver, **variables: str
) -> AsyncIterator[ConnectedService]:
    """A service that tells three receivers, on a database."""
    webhook, people, others = receivers
    environment = dict(settings(webhook, people, others)) | variables
    async with (
        healthy_service("incident", database, variables=environment) as service,
        incident_stub(service.address) as stub,
    ):
        rows = await asyncpg.connect(database)
        try:
            yield ConnectedService(service, stub, rows, webhook, people, others)
        finally:
            await rows.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connected(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConnectedService]:
    """A service that the tests of this file share, one after the other."""
    template = tmp_path_factory.mktemp("template") / "ours.md.j2"
    template.write_text(TEMPLATE, encoding="utf-8")
    async with (
        cloned_database("incident", migrate_incident) as database,
        receiver() as webhook,
        receiver() as people,
        receiver() as others,
        connected_service(
            database, webhook, people, others, INCIDENT_POSTMORTEM_TEMPLATE=str(template)
        ) as running,
    ):
        yield running


async def test_a_resolution_is_delivered_to_the_webhook_and_to_every_notification_url(
    connected: ConnectedService,
) -> None:
    title = f"disk full {token()}"
    incident = await connected.resolved(title=title, labels={"host": "db-1"}, fingerprint=token())
    webhook = await connected.effect(incident.incident_id, WEBHOOK, "DONE")
    await connected.effect(incident.incident_id, NOTIFICATION, "DONE")

    (post,) = await connected.posts(incident.incident_id)
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
        "resolved_by": "tester",
        "approval_id": "",
        "action": "",
        "note": "observed",
    }
    for to in (connected.people, connected.others):
        (message,) = connected.messages(to, title)
        assert message.startswith(f"{incident.incident_id}, severity HIGH\nHUMAN by tester, ")
    for effect in ("WEBHOOK", "NOTIFICATION"):
        assert await connected.events(incident.incident_id, "EFFECT_DONE", effect) == [""]


async def test_a_failed_delivery_is_retried_with_the_same_delivery_id_and_body(
    connected: ConnectedService,
) -> None:
    connected.webhook.answers += [status(500), status(503)]
    incident = await connected.resolved()
    effect = await connected.effect(incident.incident_id, WEBHOOK, "DONE")
    posts = await connected.posts(incident.incident_id)
    assert effect.attempts == len(posts) == 3
    assert {post.headers["webhook-id"] for post in posts} == {effect.delivery_id}
    assert len({post.body for post in posts}) == 1
    assert await connected.events(incident.incident_id, "EFFECT_DONE", "WEBHOOK") == [""]


async def test_a_refused_delivery_is_a_dead_letter_and_done_after_a_retry(
    connected: ConnectedService,
) -> None:
    connected.webhook.answers.append(status(400, body=SECRET.encode()))
    incident = await connected.resolved()
    parked = await connected.effect(incident.incident_id, WEBHOOK, "PARKED")
    assert parked.last_error == "the receiver answered 400"
    assert await connected.events(incident.incident_id, "EFFECT_PARKED", "WEBHOOK") == [parked.last_error]

    await connected.stub.RetrySideEffect(
        pb.RetrySideEffectRequest(incident_id=incident.incident_id, effect=WEBHOOK)
    )
    done = await connected.effect(incident.incident_id, WEBHOOK, "DONE")
    posts = await connected.posts(incident.incident_id)
    assert [post.headers["webhook-id"] for post in posts] == [parked.delivery_id] * 2
    assert done.attempts == 2
    assert await connected.events(incident.incident_id, "EFFECT_DONE", "WEBHOOK") == [""]


async def test_retry_after_extends_the_backoff(connected: ConnectedService) -> None:
    connected.webhook.answers.append(status(429, headers={"Retry-After": "3000"}))
    incident = await connected.resolved()
    request = pb.ListSideEffectsRequest(incident_id=incident.incident_id, effects=[WEBHOOK])

    async def question() -> incident_pb2.SideEffect:
        return (await connected.stub.ListSideEffects(request)).side_effects[0]

    effect = await eventually(question, lambda found: bool(found.last_error))
    assert effect.state == incident_pb2.SideEffect.STATE_PENDING
    assert effect.last_error == "the receiver answered 429"
    wait = effect.next_attempt_time.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(minutes=40) < wait <= timedelta(minutes=50)
    await connected.rows.execute("UPDATE outbox SET next_attempt_time = now() WHERE state = 'PENDING'")
    await connected.effect(incident.incident_id, WEBHOOK, "DONE")


async def test_a_retry_notifies_only_receivers_that_were_not_notified(connected: ConnectedService) -> None:
    connected.others.answers += [status(502), status(404)]
    title = f"disk full {token()}"
    incident = await connected.resolved(title=title)
    parked = await connected.effect(incident.incident_id, NOTIFICATION, "PARKED")
    assert parked.last_error == "URL 2 (JSON): answered 404"
    await connected.stub.RetrySideEffect(
        pb.RetrySideEffectRequest(incident_id=incident.incident_id, effect=NOTIFICATION)
    )
    await connected.effect(incident.incident_id, NOTIFICATION, "DONE")
    assert (
        len(connected.messages(connected.people, title)),
        len(connected.messages(connected.others, title)),
    ) == (1, 3)


async def test_the_next_resolution_has_a_delivery_id_of_its_own(connected: ConnectedService) -> None:
    incident = await connected.resolved()
    await connected.effect(incident.incident_id, WEBHOOK, "DONE")
    await connected.stub.Reopen(pb.ReopenRequest(incident_id=incident.incident_id, reason="it came back"))
    await connected.resolve(incident.incident_id)
    await connected.effect(incident.incident_id, WEBHOOK, "DONE", number=2)
    assert [post.content["delivery_id"] for post in await connected.posts(incident.incident_id)] == [
        f"{incident.incident_id}/webhook/1",
        f"{incident.incident_id}/webhook/2",
    ]


async def test_a_batch_of_resolutions_is_delivered_once_each(connected: ConnectedService) -> None:
    incidents = await asyncio.gather(*(opened(connected.stub) for _ in range(40)))
    items = [
        pb.BatchResolveRequest.Item(incident_id=incident.incident_id, resolution_type=NO_ACTION)
        for incident in incidents
    ]
    await connected.stub.BatchResolve(pb.BatchResolveRequest(items=items))
    for incident in incidents:
        await connected.effect(incident.incident_id, WEBHOOK, "DONE")
        assert len(await connected.posts(incident.incident_id)) == 1


async def test_disabled_resolution_types_are_skipped_with_the_reason(connected: ConnectedService) -> None:
    title = f"disk full {token()}"
    incident = await connected.resolved(title=title, resolution_type=DUPLICATE)
    for effect, name in ((NOTIFICATION, "NOTIFY"), (POSTMORTEM, "POSTMORTEM")):
        skipped = await connected.effect(incident.incident_id, effect, "SKIPPED")
        assert skipped.skip_reason == f"INCIDENT_{name}_SKIP leaves out DUPLICATE"
        kind = incident_pb2.SideEffect.Effect.Name(effect).removeprefix("EFFECT_")
        assert await connected.events(incident.incident_id, "EFFECT_SKIPPED", kind) == [skipped.skip_reason]
    await connected.effect(incident.incident_id, WEBHOOK, "DONE")
    assert connected.messages(connected.people, title) == []
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await connected.stub.GetPostmortem(pb.GetPostmortemRequest(incident_id=incident.incident_id))
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND


async def test_postmortems_are_rendered_with_the_configured_template(connected: ConnectedService) -> None:
    incident = await connected.resolved(title="memory\tfull")
    await connected.effect(incident.incident_id, POSTMORTEM, "DONE")
    answer = await connected.stub.GetPostmortem(pb.GetPostmortemRequest(incident_id=incident.incident_id))
    assert answer.postmortem.markdown == "# Ours: memory full\n"


async def test_a_template_that_fails_on_one_incident_parks_that_postmortem_only(
    connected: ConnectedService,
) -> None:
    fails, works = await asyncio.gather(
        connected.resolved(title="explode"), connected.resolved(title="does not")
    )
    await connected.effect(works.incident_id, POSTMORTEM, "DONE")
    parked = await connected.effect(fails.incident_id, POSTMORTEM, "PARKED")
    assert re.fullmatch(r"INCIDENT_POSTMORTEM_TEMPLATE: \S+/ours\.md\.j2 line 3: .*zero.*", parked.last_error)
    request = pb.RetrySideEffectRequest(incident_id=fails.incident_id, effect=POSTMORTEM)
    await connected.stub.RetrySideEffect(request)

    async def reasons() -> list[str]:
        return await connected.events(fails.incident_id, "EFFECT_PARKED", "POSTMORTEM")

    # Once for each time somebody put it back; it does not try for ever.
    assert await eventually(reasons, lambda found: len(found) > 1) == [parked.last_error] * 2


async def test_no_secret_is_in_the_log_or_in_the_database(connected: ConnectedService) -> None:
    connected.webhook.answers += [
        status(500, body=SECRET.encode()),
        status(302, headers={"Location": f"/{SECRET}"}),
    ]
    connected.people.answers += [status(500, body=SECRET.encode())]
    incident = await connected.resolved()
    await connected.effect(incident.incident_id, WEBHOOK, "DONE")
    await connected.effect(incident.incident_id, NOTIFICATION, "DONE")
    assert connected.service.events("outbox_attempt_failed")
    assert SECRET not in "".join(connected.service.lines)
    kept = """
        SELECT count(*) FROM (SELECT outbox::text FROM outbox UNION ALL SELECT event::text FROM incident_events AS event)
            AS rows (text) WHERE text LIKE $1
    """
    assert await connected.rows.fetchval(kept, f"%{incident.incident_id}%") > 0
    assert await connected.rows.fetchval(kept, f"%{SECRET}%") == 0


async def test_without_external_systems_both_effects_are_skipped_with_the_reason(
    service: RunningService,
) -> None:
    async with incident_stub(service.address) as stub:
        rows = await asyncpg.connect(service.database_url)
        quiet = ConnectedService(service, stub, rows, Receiver(""), Receiver(""), Receiver(""))
        incident = await quiet.resolved()
        for effect, variable in ((NOTIFICATION, "INCIDENT_NOTIFY_URLS"), (WEBHOOK, "INCIDENT_WEBHOOK_URL")):
            skipped = await quiet.effect(incident.incident_id, effect, "SKIPPED")
            assert (skipped.skip_reason, skipped.last_error) == (f"{variable} is not set", "")
            assert skipped.HasField("done_time")
            kind = incident_pb2.SideEffect.Effect.Name(effect).removeprefix("EFFECT_")
            # What nobody set up is no event of the incident.
            assert await quiet.events(incident.incident_id, "EFFECT_SKIPPED", kind) == []
        await rows.close()


async def end_leases(rows: "Connection") -> None:
    """Let the time of every lease and backoff pass."""
    await rows.execute("UPDATE outbox SET next_attempt_time = now() WHERE state = 'PENDING'")


async def killed_and_started_again(
    connected: ConnectedService, incident_id: str, database: str
) -> tuple[list[Received], incident_pb2.SideEffect, list[str]]:
    """Kill the service, start another one, and return what the webhook's receiver got until the effect was done."""
    connected.service.send(signal.SIGKILL)
    assert await connected.service.ended() == -signal.SIGKILL
    await end_leases(connected.rows)
    async with connected_service(database, connected.webhook, connected.people, connected.others) as again:
        effect = await again.effect(incident_id, WEBHOOK, "DONE")
        return (
            await again.posts(incident_id),
            effect,
            await again.events(incident_id, "EFFECT_DONE", "WEBHOOK"),
        )


@pytest.mark.parametrize(
    "answered", [False, True], ids=["while it waits for the answer", "before it writes down the answer"]
)
async def test_a_delivery_interrupted_by_a_kill_is_repeated_with_the_same_delivery_id(answered: bool) -> None:
    async with (
        cloned_database("incident", migrate_incident) as database,
        receiver() as webhook,
        receiver() as people,
        receiver() as others,
        connected_service(database, webhook, people, others) as connected,
    ):
        held = Held(status(204))
        webhook.answers.append(held)
        incident = await connected.resolved()
        await webhook.received(1)
        if answered:
            # Its mark waits for this lock.
            locking = await asyncpg.connect(database)
            await locking.execute("BEGIN; SELECT FROM outbox WHERE topic = 'effect.webhook' FOR UPDATE")
            held.release.set()
            await eventually(lambda: connected.rows.fetchval(BLOCKED))
            connected.service.send(signal.SIGKILL)
            await connected.service.ended()
            await locking.close()
        posts, effect, done = await killed_and_started_again(connected, incident.incident_id, database)
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
        connected_service(
            database, webhook, people, others, INCIDENT_NOTIFY_URLS=f"json://127.0.0.1:{people.port}/?rto=600"
        ) as connected,
    ):
        webhook.answers.append(Held(status(204)))
        people.answers.append(Held(status(204)))
        await connected.resolved()
        await webhook.received(1)
        await people.received(1)
        connected.service.send(signal.SIGTERM)
        assert await connected.service.ended() == 0
        # Given back for whoever comes next.
        assert await connected.rows.fetchval("SELECT count(*) FROM outbox WHERE lease_token IS NOT NULL") == 0


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        pytest.param(
            {"INCIDENT_NOTIFY_URLS": f"json://127.0.0.1 nobody://{SECRET}"},
            "INCIDENT_NOTIFY_URLS: URL 2 of 2 is none that Apprise can use",
            id="a notification URL",
        ),
        pytest.param(
            {"INCIDENT_WEBHOOK_URL": f"http://example.org/{SECRET}", "INCIDENT_WEBHOOK_SECRET": SECRET},
            "INCIDENT_WEBHOOK_URL: without TLS, every host on the network path can read it: use https://, "
            "or set INCIDENT_WEBHOOK_INSECURE=true if the network is trusted",
            id="a webhook without TLS",
        ),
        pytest.param(
            {"INCIDENT_POSTMORTEM_TEMPLATE": "/nowhere/ours.md.j2"},
            "INCIDENT_POSTMORTEM_TEMPLATE: /nowhere/ours.md.j2: cannot be read: TemplateNotFound",
            id="a template",
        ),
    ],
)
async def test_an_invalid_setting_of_the_effects_stops_the_start_with_one_line(
    variables: Mapping[str, str], line: str
) -> None:
    process = ServiceProcess(
        "incident",
        ["serve"],
        {"INCIDENT_DATABASE_URL": "postgresql://127.0.0.1:1/incident"} | dict(variables),
    )
    assert await process.ended() == 2
    assert process.lines == [f"{line}\n"]
