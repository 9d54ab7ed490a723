"""GetFlywheelStats: every figure of the incident sections against what was done, on a service of its own."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
import pytest_asyncio

from awoooi.flywheel.v1 import flywheel_stats_pb2
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_pb
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.model import Effect
from tests.databases import cloned_database
from tests.eventually import eventually
from tests.incident.incidents import (
    HUMAN,
    INVESTIGATING,
    NO_ACTION,
    OPEN,
    create_request,
    effects_settled,
    incident_stub,
    opened,
    resolved,
    stats_stub,
    token,
)
from tests.incident.side_effects import EFFECTS, POSTMORTEM, WEBHOOK, SideEffect
from tests.incident.stats import FULL, read_stats
from tests.migrated import migrate_incident
from tests.rpc_errors import refused
from tests.services import RunningService, healthy_service

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

    Stub = IncidentServiceAsyncStub
    Rows = asyncpg.Connection[asyncpg.Record]

STUCK_AFTER = timedelta(minutes=45)
Reason = flywheel_stats_pb2.StuckReason
TYPES = incident_pb2.ResolutionType.values()[1:]
SEVERITIES = incident_pb2.Severity.values()[1:]
BOUNDS = [60, 300, 900, 1800, 3600, 14_400, 43_200, 86_400, 259_200, 604_800]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[RunningService]:
    variables = {"INCIDENT_STUCK_AFTER": "45m"}
    async with (
        cloned_database("incident", migrate_incident) as database,
        healthy_service("incident", database, variables=variables) as service,
    ):
        yield service


@pytest_asyncio.fixture
async def rows(running: RunningService) -> "AsyncIterator[Rows]":
    connection = await asyncpg.connect(running.database_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def alone(running: RunningService, rows: "Rows") -> RunningService:
    """A service with an empty database that nobody else writes to."""
    # What waits until tomorrow is of a test before.
    due = "SELECT count(*) FROM outbox WHERE state = 'PENDING' AND next_attempt_time < now() + interval '1 hour'"
    await eventually(lambda: rows.fetchval(due), lambda count: count == 0)
    await rows.execute("TRUNCATE incidents, outbox, counters CASCADE")
    return running


@pytest_asyncio.fixture
async def stub(alone: RunningService) -> "AsyncIterator[Stub]":
    async with incident_stub(alone.address) as stub:
        yield stub


def by(entries: Any, label: str) -> Mapping[int, int]:
    """Counts by their label."""
    found = {getattr(entry, label): entry.count for entry in entries}
    assert len(found) == len(entries), "a value comes twice"
    return found


def side_effects(found: stats_pb.GetFlywheelStatsResponse) -> Mapping[tuple[int, int], int]:
    counts: dict[tuple[int, int], int] = {
        (each.effect, each.state): each.count for each in found.side_effects.side_effects
    }
    assert len(counts) == len(found.side_effects.side_effects), "a value comes twice"
    return counts


NOTHING_WAITS = {
    (effect, state): 0 for effect in EFFECTS for state in (SideEffect.STATE_PENDING, SideEffect.STATE_PARKED)
}


async def resolve(stub: "Stub", incident_id: str, resolution_type: Any = NO_ACTION) -> None:
    await stub.Resolve(pb.ResolveRequest(incident_id=incident_id, resolution_type=resolution_type))


async def move(rows: "Rows", column: str, incident_ids: Sequence[str], ago: timedelta) -> None:
    """Set a time of incidents to so long ago."""
    await rows.execute(
        f"UPDATE incidents SET {column} = now() - $1::interval WHERE incident_id = ANY ($2)",  # noqa: S608 - constants
        ago,
        incident_ids,
    )


async def test_every_enum_value_is_present_at_zero(alone: RunningService) -> None:
    found = await read_stats(alone.address)
    assert by(found.incidents.incidents, "state") == {OPEN: 0, INVESTIGATING: 0}
    assert found.incidents.stuck == 0
    assert by(found.incidents.stuck_by_reason, "reason") == dict.fromkeys(Reason.values()[1:], 0)
    assert found.incidents.stuck_after.ToTimedelta() == STUCK_AFTER
    assert by(found.incidents.opened_total, "severity") == dict.fromkeys(SEVERITIES, 0)
    assert by(found.resolutions.resolved_total, "resolution_type") == dict.fromkeys(TYPES, 0)
    assert by(found.resolutions.postmortems_24h, "resolution_type") == dict.fromkeys(TYPES, 0)
    histogram = found.resolutions.resolution_seconds
    assert [(bucket.upper_bound, bucket.cumulative_count) for bucket in histogram.buckets] == [
        (bound, 0) for bound in BOUNDS
    ]
    assert (histogram.count, histogram.sum) == (0, 0)
    assert side_effects(found) == NOTHING_WAITS
    assert found.side_effects.oldest_pending_seconds == 0
    assert abs(found.read_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=10)
    # What only the approval service knows is not there.
    for section in ("executions", "approvals", "deliveries"):
        assert not found.HasField(section)


async def test_incidents_are_counted_by_state_severity_and_resolution_type(
    alone: RunningService, stub: "Stub", rows: "Rows"
) -> None:
    fingerprint = token()
    await opened(stub, severity=incident_pb2.SEVERITY_CRITICAL, fingerprint=fingerprint)
    await stub.Create(create_request(fingerprint=fingerprint))
    request = create_request(severity=incident_pb2.SEVERITY_INFO, request_id=token())
    for _ in range(2):
        await stub.Create(request)
    for _ in range(2):
        incident = await opened(stub)
        await stub.StartInvestigation(pb.StartInvestigationRequest(incident_id=incident.incident_id))
    for resolution_type in TYPES:
        incident = await opened(stub, severity=incident_pb2.SEVERITY_LOW)
        await resolve(stub, incident.incident_id, resolution_type)
        await resolve(stub, incident.incident_id, HUMAN)
    reopened = await resolved(stub)
    await stub.Reopen(pb.ReopenRequest(incident_id=reopened.incident_id, reason="it came back"))
    again = await resolved(stub)
    await stub.Reopen(pb.ReopenRequest(incident_id=again.incident_id, reason="it came back"))
    await resolve(stub, again.incident_id, HUMAN)
    await effects_settled(rows)

    found = await read_stats(alone.address)
    assert by(found.incidents.incidents, "state") == {OPEN: 3, INVESTIGATING: 2}
    assert by(found.incidents.opened_total, "severity") == {
        incident_pb2.SEVERITY_CRITICAL: 1,
        incident_pb2.SEVERITY_HIGH: 4,
        incident_pb2.SEVERITY_MEDIUM: 0,
        incident_pb2.SEVERITY_LOW: len(TYPES),
        incident_pb2.SEVERITY_INFO: 1,
    }
    expected = dict.fromkeys(TYPES, 1) | {NO_ACTION: 3, HUMAN: 2}
    assert by(found.resolutions.resolved_total, "resolution_type") == expected
    assert by(found.resolutions.postmortems_24h, "resolution_type") == expected
    assert found.resolutions.resolution_seconds.count == sum(expected.values())
    assert found.incidents.stuck == 0
    assert side_effects(found) == NOTHING_WAITS

    await rows.execute(
        "UPDATE postmortems SET create_time = now() - interval '24 h 1 s' WHERE incident_id = $1",
        again.incident_id,
    )
    later = await read_stats(alone.address)
    assert by(later.resolutions.postmortems_24h, "resolution_type") == expected | {NO_ACTION: 2, HUMAN: 1}
    assert later.resolutions.resolved_total == found.resolutions.resolved_total


async def test_the_time_to_resolve_is_measured_from_the_opening_or_the_reopening(
    alone: RunningService, stub: "Stub", rows: "Rows"
) -> None:
    # Far enough below a bound that a slow test stays below it.
    incidents = [await opened(stub) for _ in range(5)]
    for incident, seconds in zip(incidents, (0, 200, 200, 40_000, 10 * 86_400), strict=True):
        await move(rows, "open_time", [incident.incident_id], timedelta(seconds=seconds))
        await resolve(stub, incident.incident_id)
    await stub.Reopen(pb.ReopenRequest(incident_id=incidents[-1].incident_id, reason="it came back"))
    await resolve(stub, incidents[-1].incident_id)
    await effects_settled(rows)
    histogram = (await read_stats(alone.address)).resolutions.resolution_seconds
    assert {bucket.upper_bound: bucket.cumulative_count for bucket in histogram.buckets} == dict(
        zip(BOUNDS, [2, 4, 4, 4, 4, 4, 5, 5, 5, 5], strict=True)
    )
    assert histogram.count == 6
    assert histogram.sum == pytest.approx(400 + 40_000 + 10 * 86_400, abs=300)


async def test_the_full_view_lists_the_twenty_incidents_stuck_longest(
    alone: RunningService, stub: "Stub", rows: "Rows"
) -> None:
    incidents = [await opened(stub, title=f"number {number}") for number in range(25)]
    await stub.StartInvestigation(pb.StartInvestigationRequest(incident_id=incidents[7].incident_id))
    for number, incident in enumerate(incidents):
        await move(rows, "last_progress_time", [incident.incident_id], timedelta(hours=1 + number))
    found = await read_stats(alone.address, FULL)
    assert found.incidents.stuck == 25
    listed = found.incidents.stuck_incidents
    assert [each.title for each in listed] == [f"number {number}" for number in range(24, 4, -1)]
    (started,) = [each for each in listed if each.incident_id == incidents[7].incident_id]
    assert (started.state, started.severity) == (INVESTIGATING, incident_pb2.SEVERITY_HIGH)
    since = (await stub.Get(pb.GetRequest(incident_id=started.incident_id))).incident.last_progress_time
    assert started.last_progress_time == since


async def test_pending_and_parked_effects_are_counted_and_listed(
    alone: RunningService, stub: "Stub", rows: "Rows"
) -> None:
    incidents = [await resolved(stub) for _ in range(13)]
    await effects_settled(rows)
    # As after so many failures; tried again not before tomorrow.
    for state, effect, chosen in (
        ("PENDING", Effect.WEBHOOK, incidents),
        ("PARKED", Effect.POSTMORTEM, incidents[:9]),
    ):
        for age, incident in enumerate(chosen):
            await rows.execute(
                """
                UPDATE outbox SET state = $1, last_error = 'no luck', done_time = NULL, next_attempt_time = now() + interval '1 day',
                    create_time = now() - make_interval(mins => $2)
                WHERE topic = $3 AND payload ->> 'incident_id' = $4
                """,
                state,
                10 + age,
                effect.topic,
                incident.incident_id,
            )
    basic = await read_stats(alone.address)
    assert side_effects(basic) == NOTHING_WAITS | {
        (WEBHOOK, SideEffect.STATE_PENDING): 13,
        (POSTMORTEM, SideEffect.STATE_PARKED): 9,
    }
    assert basic.side_effects.oldest_pending_seconds == pytest.approx(22 * 60, abs=300)
    waiting = (await read_stats(alone.address, FULL)).side_effects.waiting
    assert [(each.effect, each.incident_id) for each in waiting] == [
        *((POSTMORTEM, each.incident_id) for each in reversed(incidents[:9])),
        *((WEBHOOK, each.incident_id) for each in list(reversed(incidents))[:11]),
    ]
    assert {each.last_error for each in waiting} == {"no luck"}


async def test_the_full_view_has_each_of_the_last_24_hours(
    alone: RunningService, stub: "Stub", rows: "Rows"
) -> None:
    incidents = [await resolved(stub) for _ in range(5)]
    await effects_settled(rows)
    this_hour: datetime = await rows.fetchval("SELECT date_trunc('hour', now())")
    opened_in, resolved_in = (
        [this_hour - timedelta(hours=ago) for ago in hours_ago]
        for hours_ago in ((3, 3, 22, 24, 40), (2, 2, 2, 22, 24))
    )
    half = timedelta(minutes=30)
    for incident, start, end in zip(incidents, opened_in, resolved_in, strict=True):
        for statement, time in (
            ("UPDATE incidents SET create_time = $1 WHERE incident_id = $2", start),
            ("UPDATE dispositions SET resolve_time = $1 WHERE incident_id = $2", end),
        ):
            await rows.execute(statement, time + half, incident.incident_id)
    found = await read_stats(alone.address, FULL)
    hours = found.incidents.hours
    read_in = found.read_time.ToDatetime(UTC).replace(minute=0, second=0, microsecond=0)
    starts = [read_in - timedelta(hours=ago) for ago in range(23, -1, -1)]
    assert [hour.start_time.ToDatetime(UTC) for hour in hours] == starts
    assert [hour.opened for hour in hours] == [opened_in.count(start) for start in starts]
    assert [hour.resolved for hour in hours] == [resolved_in.count(start) for start in starts]
    assert (sum(hour.opened for hour in hours), sum(hour.resolved for hour in hours)) == (3, 4)


async def test_the_basic_view_has_the_stats_without_the_lists(
    alone: RunningService, stub: "Stub", rows: "Rows"
) -> None:
    incident = await opened(stub)
    await move(rows, "last_progress_time", [incident.incident_id], timedelta(days=1))
    basic = await read_stats(alone.address)
    unspecified = await read_stats(alone.address, stats_pb.GetFlywheelStatsRequest.VIEW_UNSPECIFIED)
    full = await read_stats(alone.address, FULL)
    assert len(full.incidents.stuck_incidents) == 1
    assert len(full.incidents.hours) == 24
    for each in (basic, unspecified, full):
        assert each.incidents.stuck == 1
        for field in ("stuck_incidents", "hours"):
            assert each is full or not getattr(each.incidents, field)
            each.incidents.ClearField(field)
        each.ClearField("read_time")
    assert basic == unspecified == full


async def test_stats_are_the_same_from_every_replica(
    alone: RunningService, stub: "Stub", rows: "Rows"
) -> None:
    await resolved(stub)
    async with (
        healthy_service("incident", alone.database_url) as other,
        incident_stub(other.address) as other_stub,
    ):
        await resolved(other_stub)
        await effects_settled(rows)
        found = [await read_stats(alone.address), await read_stats(other.address)]
        async with stats_stub(other.address) as stats:
            request = stats_pb.GetFlywheelStatsRequest(view=99)  # type: ignore[arg-type]  # no such view
            refusal = await refused(stats.GetFlywheelStats(request))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("view",))
    assert {by(each.incidents.opened_total, "severity")[2] for each in found} == {2}
    assert {each.resolutions.resolution_seconds.count for each in found} == {2}
