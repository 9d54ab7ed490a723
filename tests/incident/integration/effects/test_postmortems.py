"""GetPostmortem: the postmortem of each resolution, and the reason when there is none."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio

from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents, incidents_at
from tests.databases import cloned_database
from tests.incident.incidents import HUMAN, NO_ACTION, UNKNOWN_ID, token
from tests.incident.side_effects import POSTMORTEM, SideEffect, ended, side_effect, side_effects
from tests.migrated import migrate_incident
from tests.rpc_errors import refused
from tests.services import RunningService, healthy_service

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

AUTO_REPAIRED = incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED


async def postmortem(incidents: Incidents, incident_id: str, number: int = 0) -> incident_pb2.Postmortem:
    return await incidents.get_postmortem(incident_id, resolution_number=number)


async def test_a_postmortem_has_the_symptoms_the_actions_and_the_time_to_resolve(
    service: RunningService, rows: "Rows"
) -> None:
    fingerprint = token()
    async with (
        incidents_at(service.address, actor="detector") as detector,
        incidents_at(service.address, actor="alice") as alice,
    ):
        incident = await detector.opened(
            title="disk full on db-1",
            description="97 % of /var\nand rising",
            source="alertmanager",
            fingerprint=fingerprint,
            severity=incident_pb2.SEVERITY_CRITICAL,
        )
        await detector.report(title="disk full on db-1", fingerprint=fingerprint)
        await alice.start_investigation(incident.incident_id)
        for kind, summary in (
            ("PROPOSED", "RESTART deployment/db"),
            ("EXECUTION_FAILED", "no such deployment"),
        ):
            await alice.add_event(
                incident.incident_id,
                event_id=token(),
                type=incident_pb2.IncidentEvent.Type.Value(f"TYPE_{kind}"),
                summary=summary,
            )
        await rows.execute(
            "UPDATE incidents SET open_time = open_time - interval '423 s' WHERE incident_id = $1",
            incident.incident_id,
        )
        end = (
            await alice.resolve(incident.incident_id, resolution_type=AUTO_REPAIRED, note="old logs removed")
        ).incident
        await ended(alice, incident.incident_id)
        # An event after the resolution is not part of its postmortem.
        await alice.add_event(
            incident.incident_id,
            event_id=token(),
            type=incident_pb2.IncidentEvent.TYPE_NOTE,
            summary="said later",
        )
        written = await postmortem(alice, incident.incident_id)
    assert (written.incident_id, written.resolution_number, written.resolution_type) == (
        incident.incident_id,
        1,
        AUTO_REPAIRED,
    )
    assert written.create_time.ToDatetime() >= end.resolve_time.ToDatetime()
    lines = written.markdown.splitlines()
    assert lines[0] == "# disk full on db-1"
    assert lines[2] == f"{incident.incident_id}, resolution 1"
    assert "Severity CRITICAL; 2 reports, source alertmanager." in lines
    assert {"> 97 % of /var", "> and rising", "> old logs removed"} <= set(lines)
    (took,) = [line for line in lines if line.startswith("AUTO_REPAIRED by alice, ")]
    assert re.fullmatch(r"AUTO_REPAIRED by alice, 7 min \d+ s after it was opened\.", took)

    def entries(heading: str) -> list[str]:
        """The list under a heading, without its times."""
        section = written.markdown.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        return re.findall(r"^- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC (.*)$", section, re.MULTILINE)

    tried = ["PROPOSED by alice: RESTART deployment/db", "EXECUTION_FAILED by alice: no such deployment"]
    assert entries("What was tried") == tried
    assert entries("Timeline") == [
        "OPENED by detector: disk full on db-1",
        "DEDUPLICATED by detector: disk full on db-1",
        "INVESTIGATION_STARTED by alice",
        *tried,
        "RESOLVED by alice: old logs removed",
    ]


async def test_every_resolution_has_its_own_postmortem_and_the_latest_is_the_default(
    incidents: Incidents,
) -> None:
    incident_id = (await incidents.resolved()).incident_id
    await ended(incidents, incident_id)
    first = await postmortem(incidents, incident_id)
    await incidents.reopen(incident_id, reason="it came back")
    # Of an incident that is open again, the latest is still that of the resolution before.
    assert await postmortem(incidents, incident_id) == first
    await incidents.resolve(incident_id, resolution_type=HUMAN, note="replaced it")
    await ended(incidents, incident_id, number=2)
    second = await postmortem(incidents, incident_id)
    assert await postmortem(incidents, incident_id, 1) == first
    assert await postmortem(incidents, incident_id, 2) == second
    assert (first.resolution_type, second.resolution_type) == (NO_ACTION, HUMAN)
    assert "replaced it" in second.markdown
    assert "replaced it" not in first.markdown
    # The second has the timeline of the first as well.
    assert "observed" in second.markdown


async def test_a_missing_postmortem_is_not_found_with_the_reason(incidents: Incidents, rows: "Rows") -> None:
    refusal = await refused(postmortem(incidents, UNKNOWN_ID))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")

    incident_id = (await incidents.opened()).incident_id
    refusal = await refused(postmortem(incidents, incident_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "NEVER_RESOLVED")
    assert refusal.resource == ("awoooi.incident.v1.Incident", incident_id)

    async with rows.transaction():
        # Nothing is written while this is held.
        await rows.execute("LOCK TABLE postmortems IN SHARE MODE")
        await incidents.resolve(incident_id, resolution_type=NO_ACTION)
        refusal = await refused(postmortem(incidents, incident_id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "POSTMORTEM_NOT_WRITTEN")
        assert (await side_effects(incidents, incident_id))[POSTMORTEM].state == SideEffect.STATE_PENDING
    await ended(incidents, incident_id)
    assert (await postmortem(incidents, incident_id)).resolution_number == 1

    refusal = await refused(postmortem(incidents, incident_id, 2))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "POSTMORTEM_NOT_WRITTEN")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def particular(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningService]:
    """A service with a configured template, without postmortems of NO_ACTION."""
    template = tmp_path_factory.mktemp("templates") / "short.md.j2"
    template.write_text(
        "{{ title }}: {{ how }} ({{ labels['host'] | default('nowhere') }})", encoding="utf-8"
    )
    variables: dict[str, Any] = {
        "INCIDENT_POSTMORTEM_TEMPLATE": f"{template}",
        "INCIDENT_POSTMORTEM_SKIP": "NO_ACTION",
    }
    async with (
        cloned_database("incident", migrate_incident) as database,
        healthy_service("incident", database, variables=variables) as running,
    ):
        yield running


async def test_postmortems_of_a_disabled_resolution_type_are_skipped_with_the_reason(
    particular: RunningService,
) -> None:
    async with incidents_at(particular.address) as incidents:
        incident_id = (await incidents.resolved()).incident_id
        skipped = await side_effect(incidents, incident_id, POSTMORTEM, "SKIPPED")
        assert skipped.skip_reason == "INCIDENT_POSTMORTEM_SKIP leaves out NO_ACTION"
        assert skipped.last_error == ""
        assert skipped.HasField("done_time")
        refusal = await refused(postmortem(incidents, incident_id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "POSTMORTEM_NOT_WRITTEN")
        await ended(incidents, incident_id)
        # Only the postmortem is skipped.
        types = await incidents.event_types(incident_id)
        assert (types.count("EFFECT_SKIPPED"), types.count("EFFECT_DONE")) == (1, 2)
        written = (await incidents.stats()).resolutions.postmortems_24h
    assert not [each for each in written if each.resolution_type == NO_ACTION and each.count]


async def test_other_postmortems_are_rendered_with_the_configured_template(
    particular: RunningService,
) -> None:
    async with incidents_at(particular.address) as incidents:
        incident = await incidents.opened(title="swap full", labels={"host": "db-2"})
        await incidents.resolve(incident.incident_id, resolution_type=HUMAN)
        await side_effect(incidents, incident.incident_id, POSTMORTEM, "DONE")
        written = await postmortem(incidents, incident.incident_id)
    assert written.markdown == "swap full: A person repaired it. (db-2)"
    assert written.resolution_type == HUMAN


async def test_a_postmortem_is_in_the_order_in_which_things_happened(incidents: Incidents) -> None:
    incident = await incidents.opened()
    opened_at = incident.create_time.ToDatetime(UTC)
    # As they arrive after an outage; two have the same time, and each is over before the first is written. The last is of a
    # caller whose clock is ahead: it was written before the resolution, so it did not happen after it.
    for kind, after in (
        ("EXECUTED", timedelta(microseconds=40)),
        ("NOTE", timedelta(microseconds=30)),
        ("APPROVED", timedelta(microseconds=20)),
        ("PROPOSED", timedelta(microseconds=20)),
        ("EXECUTION_FAILED", timedelta(minutes=4)),
    ):
        await incidents.add_event(
            incident.incident_id,
            event_id=token(),
            type=incident_pb2.IncidentEvent.Type.Value(f"TYPE_{kind}"),
            event_time=opened_at + after,
            summary=kind.lower(),
        )
    await incidents.resolve(incident.incident_id, resolution_type=HUMAN)
    await ended(incidents, incident.incident_id)
    written = (await postmortem(incidents, incident.incident_id)).markdown
    timeline = written.split("\n## Timeline\n")[1].split("\n## ")[0]
    assert re.findall(r" UTC ([A-Z_]+) by", timeline) == [
        "OPENED",
        "PROPOSED",
        "APPROVED",
        "NOTE",
        "EXECUTED",
        "EXECUTION_FAILED",
        "RESOLVED",
    ]
    tried = written.split("\n## What was tried\n")[1].split("\n## ")[0]
    assert re.findall(r" UTC ([A-Z_]+) by", tried) == ["PROPOSED", "APPROVED", "EXECUTED", "EXECUTION_FAILED"]
