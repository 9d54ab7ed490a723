"""Resolve and StartInvestigation: the transitions, their guards, their races."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest

from awoooi.client import CallError
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.model import Effect
from tests.callers import Incidents, incidents_at
from tests.incident.incidents import HUMAN, INVESTIGATING, NO_ACTION, RESOLVED, UNKNOWN_ID, token, version
from tests.rpc_errors import refused
from tests.services import RunningService

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]


async def resolve(incidents: Incidents, incident_id: str, **fields: Any) -> pb.ResolveResponse:
    return await incidents.resolve(incident_id, **({"resolution_type": NO_ACTION} | fields))


async def start(incidents: Incidents, incident_id: str, etag: str = "") -> incident_pb2.Incident:
    return await incidents.start_investigation(incident_id, etag=etag)


async def opened(incidents: Incidents) -> incident_pb2.Incident:
    return await incidents.opened()


async def investigated(incidents: Incidents) -> incident_pb2.Incident:
    return await start(incidents, (await incidents.opened()).incident_id)


TYPES = [number for number in incident_pb2.ResolutionType.values() if number]


@pytest.mark.parametrize("kind", TYPES, ids=incident_pb2.ResolutionType.Name)
@pytest.mark.parametrize("begin", [opened, investigated], ids=["open", "investigating"])
async def test_an_unresolved_incident_is_resolved(
    service: RunningService, begin: Callable[[Incidents], Awaitable[incident_pb2.Incident]], kind: int
) -> None:
    async with incidents_at(service.address, actor="alice@example.org") as incidents:
        before = await begin(incidents)
        answer = await resolve(incidents, before.incident_id, resolution_type=kind, note="did\nthis ☂")
        after = answer.incident
        assert not answer.already_resolved
        assert after.state == RESOLVED
        assert after.resolution_type == kind
        assert after.resolution_note == "did\nthis ☂"
        assert after.resolved_by == "alice@example.org"
        assert after.resolution_number == 1
        assert after.resolve_time == after.update_time == after.last_progress_time
        assert after.resolve_time.ToDatetime() > before.create_time.ToDatetime()
        assert after.etag != before.etag
        assert await incidents.get(before.incident_id) == after
        unchanged = (
            "title",
            "severity",
            "labels",
            "create_time",
            "opened_by",
            "investigate_time",
            "fingerprint",
        )
        assert [getattr(after, name) for name in unchanged] == [getattr(before, name) for name in unchanged]


async def test_the_resolution_is_on_the_timeline(incidents: Incidents) -> None:
    incident = await incidents.resolved()
    answer = await incidents.list_events(
        incident.incident_id, types=[incident_pb2.IncidentEvent.TYPE_RESOLVED]
    ).page()
    (event,) = answer.events
    assert (event.actor, event.summary, event.resolution_number) == ("operator", "observed", 1)
    assert event.attributes["resolution_type"] == "NO_ACTION"
    assert event.event_time == incident.resolve_time


@pytest.mark.parametrize(
    "fields",
    [{}, {"resolution_type": HUMAN}, {"note": "another"}, {"etag": "stale"}, {"etag": "current"}],
    ids=["the same", "another type", "another note", "a stale etag", "the current etag"],
)
async def test_resolve_is_idempotent_for_a_resolved_incident(
    service: RunningService, incidents: Incidents, fields: dict[str, object]
) -> None:
    incident = await incidents.resolved()
    if fields.get("etag") == "current":
        fields = {"etag": incident.etag}
    async with incidents_at(service.address, actor="somebody-else") as other:
        answer = await resolve(other, incident.incident_id, **fields)
    assert answer.already_resolved
    assert answer.incident == incident
    logged = await service.logged(
        "incident_resolve_skipped_already_resolved", incident_id=incident.incident_id, actor="somebody-else"
    )
    assert logged["level"] == "info"


async def test_an_unknown_incident_is_not_found(service: RunningService, incidents: Incidents) -> None:
    refusal = await refused(resolve(incidents, UNKNOWN_ID))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
    assert refusal.resource == ("awoooi.incident.v1.Incident", UNKNOWN_ID)
    line = await service.logged("incident_not_found_for_resolve", incident_id=UNKNOWN_ID, actor="operator")
    assert line["level"] == "warning"


async def test_a_resolve_with_the_current_etag_succeeds(incidents: Incidents) -> None:
    incident = await incidents.opened()
    answer = await resolve(incidents, incident.incident_id, etag=incident.etag)
    assert not answer.already_resolved


@pytest.mark.parametrize(
    "etag", ["0", "2", "01", "+1", "1.0", "x", "9" * 18, "9" * 19, "9" * 128, "-1", "!~", "1e0", "1-", "1-0"]
)
@pytest.mark.parametrize("transition", [resolve, start], ids=["Resolve", "StartInvestigation"])
async def test_a_resolve_with_a_stale_etag_is_refused_and_writes_nothing(
    incidents: Incidents, transition: Callable[..., Awaitable[object]], etag: str
) -> None:
    incident = await incidents.opened()
    assert incident.etag.startswith("1-"), "the table above rests on it"
    refusal = await refused(transition(incidents, incident.incident_id, etag=etag))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "INCIDENT_CHANGED")
    assert refusal.resource == ("awoooi.incident.v1.Incident", incident.incident_id)
    assert await incidents.get(incident.incident_id) == incident
    assert await incidents.event_types(incident.incident_id) == ["OPENED"]


@pytest.mark.parametrize("transition", [resolve, start], ids=["Resolve", "StartInvestigation"])
async def test_an_etag_from_before_a_restore_is_stale_when_the_version_is_reached_again(
    incidents: Incidents, rows: "Rows", transition: Callable[..., Awaitable[object]]
) -> None:
    fingerprint = token()
    backed_up = await incidents.opened(fingerprint=fingerprint)
    lost = await incidents.opened(fingerprint=fingerprint)
    await rows.execute(
        "UPDATE incidents SET version = 1, update_time = create_time WHERE incident_id = $1",
        lost.incident_id,
    )
    assert (await incidents.get(lost.incident_id)).etag == backed_up.etag
    again = await incidents.opened(fingerprint=fingerprint)
    assert version(again) == version(lost)
    refusal = await refused(transition(incidents, lost.incident_id, etag=lost.etag))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "INCIDENT_CHANGED")
    await transition(incidents, lost.incident_id, etag=again.etag)


@pytest.mark.parametrize("transition", [resolve, start], ids=["Resolve", "StartInvestigation"])
async def test_an_etag_that_an_earlier_version_issued_is_taken(
    incidents: Incidents, transition: Callable[..., Awaitable[object]]
) -> None:
    incident = await incidents.opened()
    await transition(incidents, incident.incident_id, etag=str(version(incident)))
    assert version(await incidents.get(incident.incident_id)) > version(incident)


async def test_every_change_makes_the_etag_stale(incidents: Incidents) -> None:
    fingerprint = token()
    incident = await incidents.opened(fingerprint=fingerprint)
    await incidents.opened(fingerprint=fingerprint)
    refusal = await refused(resolve(incidents, incident.incident_id, etag=incident.etag))
    assert refusal.code is grpc.StatusCode.ABORTED


async def test_of_two_concurrent_resolves_with_one_etag_one_wins_and_the_other_gets_the_record(
    service: RunningService,
) -> None:
    async with incidents_at(service.address) as one, incidents_at(service.address) as two:
        for _ in range(20):
            incident = await one.opened()
            answers = await asyncio.gather(
                *(resolve(each, incident.incident_id, etag=incident.etag) for each in (one, two))
            )
            assert sorted(answer.already_resolved for answer in answers) == [False, True]
            assert answers[0].incident == answers[1].incident


async def test_a_hundred_concurrent_resolves_are_one_transition(
    service: RunningService, rows: "Rows"
) -> None:
    async with incidents_at(service.address) as one, incidents_at(service.address) as two:
        incident_id = (await one.opened()).incident_id
        answers = await asyncio.gather(
            *(resolve((one, two)[number % 2], incident_id, note=f"caller {number}") for number in range(100))
        )
        assert Counter(answer.already_resolved for answer in answers) == {False: 1, True: 99}
        assert len({answer.incident.SerializeToString(deterministic=True) for answer in answers}) == 1
        assert (await one.event_types(incident_id)).count("RESOLVED") == 1
    jobs = await rows.fetch("SELECT topic FROM outbox WHERE payload->>'incident_id' = $1", incident_id)
    assert Counter(row["topic"] for row in jobs) == {effect.topic: 1 for effect in Effect}


async def test_a_group_commit_resolves_each_incident_for_its_own_caller(service: RunningService) -> None:
    async with incidents_at(service.address) as incidents:
        ids = [(await incidents.opened()).incident_id for _ in range(60)]
        answers = await asyncio.gather(*(resolve(incidents, one, note=f"note of {one}") for one in ids))
    assert [answer.incident.incident_id for answer in answers] == ids
    assert [answer.incident.resolution_note for answer in answers] == [f"note of {one}" for one in ids]


async def test_an_invalid_resolve_fails_no_other_of_its_group_commit(incidents: Incidents) -> None:
    good = [(await incidents.opened()).incident_id for _ in range(10)]
    stale = (await incidents.opened()).incident_id
    answers = await asyncio.gather(
        *(resolve(incidents, one) for one in good),
        resolve(incidents, UNKNOWN_ID),
        resolve(incidents, stale, etag="7"),
        return_exceptions=True,
    )
    assert not any(isinstance(answer, BaseException) for answer in answers[:10])
    codes = [answer.code for answer in answers[10:] if isinstance(answer, CallError)]
    assert codes == [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED]


async def test_a_resolve_that_waited_for_a_concurrent_change_resolves_the_changed_incident(
    incidents: Incidents, rows: "Rows"
) -> None:
    incident = await incidents.opened()
    async with rows.transaction():
        await rows.execute(
            "UPDATE incidents SET version = version + 1, state = 'INVESTIGATING' WHERE incident_id = $1",
            incident.incident_id,
        )
        call = asyncio.ensure_future(resolve(incidents, incident.incident_id))
        await waits_for_a_lock(rows)
    answer = await call
    assert not answer.already_resolved
    assert (answer.incident.resolution_number, version(answer.incident)) == (1, 3)


async def test_a_resolve_with_an_etag_that_waited_for_a_concurrent_change_is_refused(
    incidents: Incidents, rows: "Rows"
) -> None:
    incident = await incidents.opened()
    async with rows.transaction():
        await rows.execute(
            "UPDATE incidents SET version = version + 1 WHERE incident_id = $1", incident.incident_id
        )
        call = asyncio.ensure_future(resolve(incidents, incident.incident_id, etag=incident.etag))
        await waits_for_a_lock(rows)
    assert (await refused(call)).code is grpc.StatusCode.ABORTED


async def waits_for_a_lock(rows: "Rows") -> None:
    """Return when the service waits for a row that this test holds."""
    waiting = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()
    """
    async with asyncio.timeout(60):
        while not await rows.fetchval(waiting):
            await rows.execute("SELECT pg_sleep(0.01)")
            await rows.execute("SELECT pg_stat_clear_snapshot()")


async def test_an_open_incident_is_investigated(incidents: Incidents) -> None:
    before = await incidents.opened()
    after = await start(incidents, before.incident_id, before.etag)
    assert after.state == INVESTIGATING
    assert after.investigate_time == after.update_time == after.last_progress_time
    assert after.etag != before.etag
    assert not after.HasField("resolve_time")
    assert await incidents.event_types(before.incident_id) == ["OPENED", "INVESTIGATION_STARTED"]


@pytest.mark.parametrize("etag", ["", "stale"])
async def test_start_investigation_is_idempotent(incidents: Incidents, etag: str) -> None:
    before = await investigated(incidents)
    assert await start(incidents, before.incident_id, etag) == before
    assert await incidents.event_types(before.incident_id) == ["OPENED", "INVESTIGATION_STARTED"]


async def test_concurrent_starts_of_an_investigation_write_one_event(incidents: Incidents) -> None:
    incident_id = (await incidents.opened()).incident_id
    started = await asyncio.gather(*(start(incidents, incident_id) for _ in range(30)))
    assert len({each.SerializeToString(deterministic=True) for each in started}) == 1
    assert await incidents.event_types(incident_id) == ["OPENED", "INVESTIGATION_STARTED"]


async def test_a_resolved_incident_is_not_investigated(incidents: Incidents) -> None:
    before = await incidents.resolved()
    refusal = await refused(start(incidents, before.incident_id))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "INCIDENT_STATE_NOT_ALLOWED",
    )
    assert refusal.metadata == {"current_state": "RESOLVED", "allowed_states": "OPEN"}
    assert refusal.preconditions == ("is RESOLVED, must be one of: OPEN",)
    assert await incidents.get(before.incident_id) == before


async def test_an_unknown_incident_is_not_investigated(incidents: Incidents) -> None:
    refusal = await refused(start(incidents, UNKNOWN_ID))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
