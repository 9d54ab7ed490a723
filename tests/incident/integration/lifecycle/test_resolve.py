"""Resolve and StartInvestigation: the transitions, their guards, their races."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import asyncpg
import grpc
import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.model import Effect
from tests.incident.incidents import (
    HUMAN,
    INVESTIGATING,
    NO_ACTION,
    RESOLVED,
    UNKNOWN_ID,
    event_types,
    incident_stub,
    opened,
    resolved,
    token,
)
from tests.rpc_errors import refused
from tests.services import RunningService

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Stub = IncidentServiceAsyncStub
    Rows = asyncpg.Connection[asyncpg.Record]


def resolve(incident_id: str, **fields: object) -> pb.ResolveRequest:
    return pb.ResolveRequest(**({"incident_id": incident_id, "resolution_type": NO_ACTION} | fields))  # type: ignore[arg-type]


def start(incident_id: str, etag: str = "") -> pb.StartInvestigationRequest:
    return pb.StartInvestigationRequest(incident_id=incident_id, etag=etag)


async def investigated(stub: "Stub") -> incident_pb2.Incident:
    return (await stub.StartInvestigation(start((await opened(stub)).incident_id))).incident


TYPES = [number for number in incident_pb2.ResolutionType.values() if number]


@pytest.mark.parametrize("kind", TYPES, ids=incident_pb2.ResolutionType.Name)
@pytest.mark.parametrize("begin", [opened, investigated], ids=["open", "investigating"])
async def test_an_unresolved_incident_is_resolved(service: RunningService, begin: object, kind: int) -> None:
    async with incident_stub(service.address, actor="alice@example.org") as stub:
        before = await begin(stub)  # type: ignore[operator]
        answer = await stub.Resolve(resolve(before.incident_id, resolution_type=kind, note="did\nthis ☂"))
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
        assert (await stub.Get(pb.GetRequest(incident_id=before.incident_id))).incident == after
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


async def test_the_resolution_is_on_the_timeline(stub: "Stub") -> None:
    incident = await resolved(stub)
    answer = await stub.ListEvents(
        pb.ListEventsRequest(
            incident_id=incident.incident_id, types=[incident_pb2.IncidentEvent.TYPE_RESOLVED]
        )
    )
    (event,) = answer.events
    assert (event.actor, event.summary, event.resolution_number) == ("tester", "observed", 1)
    assert event.attributes["resolution_type"] == "NO_ACTION"
    assert event.event_time == incident.resolve_time


@pytest.mark.parametrize(
    "fields",
    [{}, {"resolution_type": HUMAN}, {"note": "another"}, {"etag": "stale"}, {"etag": "current"}],
    ids=["the same", "another type", "another note", "a stale etag", "the current etag"],
)
async def test_resolve_is_idempotent_for_a_resolved_incident(
    service: RunningService, stub: "Stub", fields: dict[str, object]
) -> None:
    incident = await resolved(stub)
    if fields.get("etag") == "current":
        fields = {"etag": incident.etag}
    async with incident_stub(service.address, actor="somebody-else") as other:
        answer = await other.Resolve(resolve(incident.incident_id, **fields))
    assert answer.already_resolved
    assert answer.incident == incident
    logged = await service.logged(
        "incident_resolve_skipped_already_resolved", incident_id=incident.incident_id, actor="somebody-else"
    )
    assert logged["level"] == "info"


async def test_an_unknown_incident_is_not_found(service: RunningService, stub: "Stub") -> None:
    refusal = await refused(stub.Resolve(resolve(UNKNOWN_ID)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
    assert refusal.resource == ("awoooi.incident.v1.Incident", UNKNOWN_ID)
    line = await service.logged("incident_not_found_for_resolve", incident_id=UNKNOWN_ID, actor="tester")
    assert line["level"] == "warning"


async def test_a_resolve_with_the_current_etag_succeeds(stub: "Stub") -> None:
    incident = await opened(stub)
    answer = await stub.Resolve(resolve(incident.incident_id, etag=incident.etag))
    assert not answer.already_resolved


@pytest.mark.parametrize(
    "etag", ["0", "2", "01", "+1", "1.0", "x", "9" * 18, "9" * 19, "9" * 128, "-1", "!~", "1e0"]
)
@pytest.mark.parametrize("rpc", ["Resolve", "StartInvestigation"])
async def test_a_resolve_with_a_stale_etag_is_refused_and_writes_nothing(
    stub: "Stub", rpc: str, etag: str
) -> None:
    incident = await opened(stub)
    assert incident.etag == "1", "the table above rests on it"
    request = (resolve if rpc == "Resolve" else start)(incident.incident_id, etag=etag)
    refusal = await refused(getattr(stub, rpc)(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "INCIDENT_CHANGED")
    assert refusal.resource == ("awoooi.incident.v1.Incident", incident.incident_id)
    assert (await stub.Get(pb.GetRequest(incident_id=incident.incident_id))).incident == incident
    assert await event_types(stub, incident.incident_id) == ["OPENED"]


async def test_every_change_makes_the_etag_stale(stub: "Stub") -> None:
    fingerprint = token()
    incident = await opened(stub, fingerprint=fingerprint)
    await opened(stub, fingerprint=fingerprint)
    refusal = await refused(stub.Resolve(resolve(incident.incident_id, etag=incident.etag)))
    assert refusal.code is grpc.StatusCode.ABORTED


async def test_of_two_concurrent_resolves_with_one_etag_one_wins_and_the_other_gets_the_record(
    service: RunningService,
) -> None:
    async with incident_stub(service.address) as one, incident_stub(service.address) as two:
        for _ in range(20):
            incident = await opened(one)
            request = resolve(incident.incident_id, etag=incident.etag)
            answers = await asyncio.gather(one.Resolve(request), two.Resolve(request))
            assert sorted(answer.already_resolved for answer in answers) == [False, True]
            assert answers[0].incident == answers[1].incident


async def test_a_hundred_concurrent_resolves_are_one_transition(
    service: RunningService, rows: "Rows"
) -> None:
    async with incident_stub(service.address) as one, incident_stub(service.address) as two:
        incident_id = (await opened(one)).incident_id
        answers = await asyncio.gather(
            *(
                (one, two)[number % 2].Resolve(resolve(incident_id, note=f"caller {number}"))
                for number in range(100)
            )
        )
        assert Counter(answer.already_resolved for answer in answers) == {False: 1, True: 99}
        assert len({answer.incident.SerializeToString(deterministic=True) for answer in answers}) == 1
        assert (await event_types(one, incident_id)).count("RESOLVED") == 1
    jobs = await rows.fetch("SELECT topic FROM outbox WHERE payload->>'incident_id' = $1", incident_id)
    assert Counter(row["topic"] for row in jobs) == {effect.topic: 1 for effect in Effect}


async def test_a_group_commit_resolves_each_incident_for_its_own_caller(service: RunningService) -> None:
    async with incident_stub(service.address) as stub:
        ids = [(await opened(stub)).incident_id for _ in range(60)]
        answers = await asyncio.gather(*(stub.Resolve(resolve(one, note=f"note of {one}")) for one in ids))
    assert [answer.incident.incident_id for answer in answers] == ids
    assert [answer.incident.resolution_note for answer in answers] == [f"note of {one}" for one in ids]


async def test_an_invalid_resolve_fails_no_other_of_its_group_commit(stub: "Stub") -> None:
    good = [(await opened(stub)).incident_id for _ in range(10)]
    stale = (await opened(stub)).incident_id
    answers = await asyncio.gather(
        *(stub.Resolve(resolve(one)) for one in good),
        stub.Resolve(resolve(UNKNOWN_ID)),
        stub.Resolve(resolve(stale, etag="7")),
        return_exceptions=True,
    )
    assert not any(isinstance(answer, BaseException) for answer in answers[:10])
    codes = [answer.code() for answer in answers[10:] if isinstance(answer, grpc.aio.AioRpcError)]
    assert codes == [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED]


async def test_a_resolve_that_waited_for_a_concurrent_change_resolves_the_changed_incident(
    stub: "Stub", rows: "Rows"
) -> None:
    incident = await opened(stub)
    async with rows.transaction():
        await rows.execute(
            "UPDATE incidents SET version = version + 1, state = 'INVESTIGATING' WHERE incident_id = $1",
            incident.incident_id,
        )
        call = asyncio.ensure_future(stub.Resolve(resolve(incident.incident_id)))
        await waits_for_a_lock(rows)
    answer = await call
    assert not answer.already_resolved
    assert (answer.incident.resolution_number, answer.incident.etag) == (1, "3")


async def test_a_resolve_with_an_etag_that_waited_for_a_concurrent_change_is_refused(
    stub: "Stub", rows: "Rows"
) -> None:
    incident = await opened(stub)
    async with rows.transaction():
        await rows.execute(
            "UPDATE incidents SET version = version + 1 WHERE incident_id = $1", incident.incident_id
        )
        call = asyncio.ensure_future(stub.Resolve(resolve(incident.incident_id, etag=incident.etag)))
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


async def test_an_open_incident_is_investigated(stub: "Stub") -> None:
    before = await opened(stub)
    after = (await stub.StartInvestigation(start(before.incident_id, before.etag))).incident
    assert after.state == INVESTIGATING
    assert after.investigate_time == after.update_time == after.last_progress_time
    assert after.etag != before.etag
    assert not after.HasField("resolve_time")
    assert await event_types(stub, before.incident_id) == ["OPENED", "INVESTIGATION_STARTED"]


@pytest.mark.parametrize("etag", ["", "stale"])
async def test_start_investigation_is_idempotent(stub: "Stub", etag: str) -> None:
    before = await investigated(stub)
    assert (await stub.StartInvestigation(start(before.incident_id, etag))).incident == before
    assert await event_types(stub, before.incident_id) == ["OPENED", "INVESTIGATION_STARTED"]


async def test_concurrent_starts_of_an_investigation_write_one_event(stub: "Stub") -> None:
    incident_id = (await opened(stub)).incident_id
    answers = await asyncio.gather(*(stub.StartInvestigation(start(incident_id)) for _ in range(30)))
    assert len({answer.incident.SerializeToString(deterministic=True) for answer in answers}) == 1
    assert await event_types(stub, incident_id) == ["OPENED", "INVESTIGATION_STARTED"]


async def test_a_resolved_incident_is_not_investigated(stub: "Stub") -> None:
    before = await resolved(stub)
    refusal = await refused(stub.StartInvestigation(start(before.incident_id)))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "INCIDENT_STATE_NOT_ALLOWED",
    )
    assert refusal.metadata == {"current_state": "RESOLVED", "allowed_states": "OPEN"}
    assert refusal.preconditions == ("is RESOLVED, must be one of: OPEN",)
    assert (await stub.Get(pb.GetRequest(incident_id=before.incident_id))).incident == before


async def test_an_unknown_incident_is_not_investigated(stub: "Stub") -> None:
    refusal = await refused(stub.StartInvestigation(start(UNKNOWN_ID)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")
