"""A canary: an incident of a check of the deployment, which leaves nothing behind."""

from typing import Any, TypeAlias

import asyncpg
import grpc
import pytest

from awoooi.client import CallError
from awoooi.incident.v1 import incident_pb2
from incident.model import CANARY_LABEL
from tests.callers import Incidents
from tests.incident.incidents import effects_settled

Rows: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
CANARY = {CANARY_LABEL: "true"}
_TABLES = (
    "incidents",
    "incident_events",
    "create_requests",
    "postmortems",
    "dispositions",
    "knowledge",
    "outbox",
)


async def effects(incidents: Incidents, incident_id: str) -> dict[str, str]:
    """The states of an incident's side effects."""
    kind, state = incident_pb2.SideEffect.Effect.Name, incident_pb2.SideEffect.State.Name
    return {
        kind(each.effect).removeprefix("EFFECT_"): state(each.state).removeprefix("STATE_")
        async for each in incidents.list_side_effects(incident_id=incident_id)
    }


async def resolved_canary(incidents: Incidents, rows: Rows) -> incident_pb2.Incident:
    """A canary whose postmortem is written."""
    canary = await incidents.resolved(labels=CANARY)
    await effects_settled(rows)
    return canary


async def test_a_canary_is_resolved_and_removed_and_no_figure_has_changed(
    incidents: Incidents, rows: Rows
) -> None:
    before = await incidents.stats("FULL")
    canary = await resolved_canary(incidents, rows)
    assert canary.canary
    assert await effects(incidents, canary.incident_id) == {
        "POSTMORTEM": "DONE",
        "DISPOSITION": "SKIPPED",
        "KNOWLEDGE": "SKIPPED",
        "NOTIFICATION": "SKIPPED",
        "WEBHOOK": "SKIPPED",
    }
    assert (await incidents.get_postmortem(canary.incident_id)).markdown
    assert await incidents.remove_canary(canary.incident_id) is True
    # Idempotent.
    assert await incidents.remove_canary(canary.incident_id) is False
    after = await incidents.stats("FULL")
    for stats in (before, after):
        stats.ClearField("read_time")
        stats.ClearField("server")
    assert after == before
    for table in _TABLES:
        assert await rows.fetchval(f"SELECT count(*) FROM {table}") == 0, table  # noqa: S608 - names above


async def test_a_canary_is_removed_only_when_it_is_resolved(incidents: Incidents) -> None:
    canary = await incidents.opened(labels=CANARY)
    with pytest.raises(CallError) as raised:
        await incidents.remove_canary(canary.incident_id)
    assert (raised.value.code, raised.value.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "INCIDENT_STATE_NOT_ALLOWED",
    )
    await incidents.resolve(canary.incident_id, resolution_type="NO_ACTION")


async def test_an_incident_that_was_never_there_is_not_found(incidents: Incidents) -> None:
    with pytest.raises(CallError) as raised:
        await incidents.remove_canary("INC-20260101-AAAAAAAAAAAA")
    assert raised.value.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="no label"),
        pytest.param({"labels": {CANARY_LABEL: "false"}}, id="another value"),
        # Reports of something real would be deduplicated into it, and lost.
        pytest.param({"labels": CANARY, "fingerprint": "api"}, id="a fingerprint"),
    ],
)
async def test_what_is_no_canary_has_its_side_effects_and_stays(
    incidents: Incidents, fields: dict[str, Any]
) -> None:
    incident = await incidents.resolved(**fields)
    assert not incident.canary
    assert (await effects(incidents, incident.incident_id))["DISPOSITION"] != "SKIPPED"
    with pytest.raises(CallError) as raised:
        await incidents.remove_canary(incident.incident_id)
    assert raised.value.reason == "NOT_A_CANARY"
