"""GetFlywheelStats: every value of the incident sections, on a service of its own."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest

from awoooi.flywheel.v1 import flywheel_stats_pb2
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_pb
from awoooi.incident.v1 import incident_pb2
from tests.callers import Incidents, incidents_at
from tests.incident.incidents import HUMAN, INVESTIGATING, NO_ACTION, OPEN, effects_settled, token
from tests.incident.integration.stats.aged import age
from tests.incident.side_effects import EFFECTS, SideEffect
from tests.rpc_errors import refused
from tests.services import RunningService, healthy_service

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]

Reason = flywheel_stats_pb2.StuckReason
TYPES = incident_pb2.ResolutionType.values()[1:]
SEVERITIES = incident_pb2.Severity.values()[1:]
BOUNDS = [60, 300, 900, 1800, 3600, 14_400, 43_200, 86_400, 259_200, 604_800]


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


async def resolve(incidents: Incidents, incident_id: str, resolution_type: Any = NO_ACTION) -> None:
    await incidents.resolve(incident_id, resolution_type=resolution_type)


async def test_every_enum_value_is_present_at_zero(alone_incidents: Incidents) -> None:
    found = await alone_incidents.stats()
    assert by(found.incidents.incidents, "state") == {OPEN: 0, INVESTIGATING: 0}
    assert found.incidents.stuck == 0
    assert by(found.incidents.stuck_by_reason, "reason") == dict.fromkeys(Reason.values()[1:], 0)
    assert found.incidents.stuck_after.ToTimedelta() == timedelta(minutes=45)
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
    # The sections of the approval service are unset.
    for section in ("executions", "approvals", "deliveries"):
        assert not found.HasField(section)


async def test_incidents_are_counted_by_state_severity_and_resolution_type(
    alone_incidents: Incidents, alone_rows: "Rows"
) -> None:
    fingerprint = token()
    await alone_incidents.opened(severity=incident_pb2.SEVERITY_CRITICAL, fingerprint=fingerprint)
    await alone_incidents.report(fingerprint=fingerprint)
    request = {"severity": "INFO", "request_id": token()}
    for _ in range(2):
        await alone_incidents.report(**request)
    for _ in range(2):
        incident = await alone_incidents.opened()
        await alone_incidents.start_investigation(incident.incident_id)
    for resolution_type in TYPES:
        incident = await alone_incidents.opened(severity=incident_pb2.SEVERITY_LOW)
        await resolve(alone_incidents, incident.incident_id, resolution_type)
        await resolve(alone_incidents, incident.incident_id, HUMAN)
    reopened = await alone_incidents.resolved()
    await alone_incidents.reopen(reopened.incident_id, reason="it came back")
    again = await alone_incidents.resolved()
    await alone_incidents.reopen(again.incident_id, reason="it came back")
    await resolve(alone_incidents, again.incident_id, HUMAN)
    await effects_settled(alone_rows)

    found = await alone_incidents.stats()
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

    await alone_rows.execute(
        "UPDATE postmortems SET create_time = now() - interval '24 h 1 s' WHERE incident_id = $1",
        again.incident_id,
    )
    later = await alone_incidents.stats()
    assert by(later.resolutions.postmortems_24h, "resolution_type") == expected | {NO_ACTION: 2, HUMAN: 1}
    assert later.resolutions.resolved_total == found.resolutions.resolved_total


async def test_the_time_to_resolve_is_measured_from_the_opening_or_the_reopening(
    alone_incidents: Incidents, alone_rows: "Rows"
) -> None:
    # Far enough below a bound that a slow test stays below it.
    incidents = [await alone_incidents.opened() for _ in range(5)]
    for incident, seconds in zip(incidents, (0, 200, 200, 40_000, 10 * 86_400), strict=True):
        await age(alone_rows, "open_time", [incident.incident_id], timedelta(seconds=seconds))
        await resolve(alone_incidents, incident.incident_id)
    await alone_incidents.reopen(incidents[-1].incident_id, reason="it came back")
    await resolve(alone_incidents, incidents[-1].incident_id)
    await effects_settled(alone_rows)
    histogram = (await alone_incidents.stats()).resolutions.resolution_seconds
    assert {bucket.upper_bound: bucket.cumulative_count for bucket in histogram.buckets} == dict(
        zip(BOUNDS, [2, 4, 4, 4, 4, 4, 5, 5, 5, 5], strict=True)
    )
    assert histogram.count == 6
    assert histogram.sum == pytest.approx(400 + 40_000 + 10 * 86_400, abs=300)


async def test_stats_are_the_same_from_every_replica(
    alone: RunningService, alone_incidents: Incidents, alone_rows: "Rows"
) -> None:
    await alone_incidents.resolved()
    async with (
        healthy_service("incident", alone.database_url) as other,
        incidents_at(other.address) as other_incidents,
    ):
        await other_incidents.resolved()
        await effects_settled(alone_rows)
        found = [await alone_incidents.stats(), await other_incidents.stats()]
        refusal = await refused(other_incidents.stats(99))  # type: ignore[arg-type]  # no such view
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("view",))
    assert {by(each.incidents.opened_total, "severity")[2] for each in found} == {2}
    assert {each.resolutions.resolution_seconds.count for each in found} == {2}
