"""The settings of the effects: disabled ones, templates, and errors found at start."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import asyncpg
import grpc.aio
import pytest
import pytest_asyncio

from awoooi.client import CallError
from awoooi.incident.v1 import incident_pb2
from tests.callers import incidents_at
from tests.databases import cloned_database
from tests.eventually import eventually
from tests.incident.incidents import token
from tests.incident.integration.effects.deliveries import (
    NOTIFICATION,
    POSTMORTEM,
    SECRET,
    WEBHOOK,
    DeliveringService,
    delivering_service,
)
from tests.migrated import migrate_incident
from tests.receiver import Receiver, receiver
from tests.services import RunningService, ServiceProcess

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEMPLATE = "# Ours: {{ title }}\n{% if 'explode' in title %}\n{{ 1 // 0 }}\n{% endif %}\n"
DUPLICATE = incident_pb2.RESOLUTION_TYPE_DUPLICATE


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def delivering(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DeliveringService]:
    """A service that the tests of this file share, one after the other."""
    template = tmp_path_factory.mktemp("template") / "ours.md.j2"
    template.write_text(TEMPLATE, encoding="utf-8")
    async with (
        cloned_database("incident", migrate_incident) as database,
        receiver() as webhook,
        receiver() as people,
        receiver() as others,
        delivering_service(
            database, webhook, people, others, INCIDENT_POSTMORTEM_TEMPLATE=str(template)
        ) as running,
    ):
        yield running


async def test_disabled_resolution_types_are_skipped_with_the_reason(delivering: DeliveringService) -> None:
    title = f"disk full {token()}"
    incident = await delivering.resolved(title=title, resolution_type=DUPLICATE)
    for effect, name in ((NOTIFICATION, "NOTIFY"), (POSTMORTEM, "POSTMORTEM")):
        skipped = await delivering.effect(incident.incident_id, effect, "SKIPPED")
        assert skipped.skip_reason == f"INCIDENT_{name}_SKIP leaves out DUPLICATE"
        kind = incident_pb2.SideEffect.Effect.Name(effect).removeprefix("EFFECT_")
        assert await delivering.events(incident.incident_id, "EFFECT_SKIPPED", kind) == [skipped.skip_reason]
    await delivering.effect(incident.incident_id, WEBHOOK, "DONE")
    assert delivering.messages(delivering.people, title) == []
    with pytest.raises(CallError) as missing:
        await delivering.incidents.get_postmortem(incident.incident_id)
    assert missing.value.code is grpc.StatusCode.NOT_FOUND


async def test_postmortems_are_rendered_with_the_configured_template(delivering: DeliveringService) -> None:
    incident = await delivering.resolved(title="memory\tfull")
    await delivering.effect(incident.incident_id, POSTMORTEM, "DONE")
    answer = await delivering.incidents.get_postmortem(incident.incident_id)
    assert answer.markdown == "# Ours: memory full\n"


async def test_a_template_that_fails_on_one_incident_parks_that_postmortem_only(
    delivering: DeliveringService,
) -> None:
    fails, works = await asyncio.gather(
        delivering.resolved(title="explode"), delivering.resolved(title="does not")
    )
    await delivering.effect(works.incident_id, POSTMORTEM, "DONE")
    parked = await delivering.effect(fails.incident_id, POSTMORTEM, "PARKED")
    assert re.fullmatch(r"INCIDENT_POSTMORTEM_TEMPLATE: \S+/ours\.md\.j2 line 3: .*zero.*", parked.last_error)
    await delivering.incidents.retry_side_effect(fails.incident_id, effect=POSTMORTEM)

    async def reasons() -> list[str]:
        return await delivering.events(fails.incident_id, "EFFECT_PARKED", "POSTMORTEM")

    # Once for each retry: a permanent error is not retried by itself.
    assert await eventually(reasons, lambda found: len(found) > 1) == [parked.last_error] * 2


async def test_without_external_systems_both_effects_are_skipped_with_the_reason(
    service: RunningService,
) -> None:
    async with incidents_at(service.address) as incidents:
        rows = await asyncpg.connect(service.database_url)
        quiet = DeliveringService(service, incidents, rows, Receiver(""), Receiver(""), Receiver(""))
        incident = await quiet.resolved()
        for effect, variable in ((NOTIFICATION, "INCIDENT_NOTIFY_URLS"), (WEBHOOK, "INCIDENT_WEBHOOK_URL")):
            skipped = await quiet.effect(incident.incident_id, effect, "SKIPPED")
            assert (skipped.skip_reason, skipped.last_error) == (f"{variable} is not set", "")
            assert skipped.HasField("done_time")
            kind = incident_pb2.SideEffect.Effect.Name(effect).removeprefix("EFFECT_")
            # A disabled effect is no event of the incident.
            assert await quiet.events(incident.incident_id, "EFFECT_SKIPPED", kind) == []
        await rows.close()


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
