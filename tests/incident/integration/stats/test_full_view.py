"""GetFlywheelStats for a person: the lists of the full view."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_pb
from awoooi.incident.v1 import incident_pb2
from incident.model import Effect
from tests.callers import Incidents
from tests.incident.incidents import INVESTIGATING, effects_settled
from tests.incident.integration.stats.aged import age
from tests.incident.side_effects import EFFECTS, POSTMORTEM, WEBHOOK, SideEffect

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]


def side_effects(found: stats_pb.GetFlywheelStatsResponse) -> Mapping[tuple[int, int], int]:
    counts: dict[tuple[int, int], int] = {
        (each.effect, each.state): each.count for each in found.side_effects.side_effects
    }
    assert len(counts) == len(found.side_effects.side_effects), "a value comes twice"
    return counts


NOTHING_WAITS = {
    (effect, state): 0 for effect in EFFECTS for state in (SideEffect.STATE_PENDING, SideEffect.STATE_PARKED)
}


async def test_the_full_view_lists_the_twenty_incidents_stuck_longest(
    alone_incidents: Incidents, alone_rows: "Rows"
) -> None:
    incidents = [await alone_incidents.opened(title=f"number {number}") for number in range(25)]
    await alone_incidents.start_investigation(incidents[7].incident_id)
    for number, incident in enumerate(incidents):
        await age(alone_rows, "last_progress_time", [incident.incident_id], timedelta(hours=1 + number))
    found = await alone_incidents.stats("FULL")
    assert found.incidents.stuck == 25
    listed = found.incidents.stuck_incidents
    assert [each.title for each in listed] == [f"number {number}" for number in range(24, 4, -1)]
    (started,) = [each for each in listed if each.incident_id == incidents[7].incident_id]
    assert (started.state, started.severity) == (INVESTIGATING, incident_pb2.SEVERITY_HIGH)
    since = (await alone_incidents.get(started.incident_id)).last_progress_time
    assert started.last_progress_time == since


async def test_pending_and_parked_effects_are_counted_and_listed(
    alone_incidents: Incidents, alone_rows: "Rows"
) -> None:
    incidents = [await alone_incidents.resolved() for _ in range(13)]
    await effects_settled(alone_rows)
    # As after so many failures; tried again not before tomorrow.
    for state, effect, chosen in (
        ("PENDING", Effect.WEBHOOK, incidents),
        ("PARKED", Effect.POSTMORTEM, incidents[:9]),
    ):
        for minutes, incident in enumerate(chosen):
            await alone_rows.execute(
                """
                UPDATE outbox SET state = $1, last_error = 'no luck', done_time = NULL, next_attempt_time = now() + interval '1 day',
                    create_time = now() - make_interval(mins => $2)
                WHERE topic = $3 AND payload ->> 'incident_id' = $4
                """,
                state,
                10 + minutes,
                effect.topic,
                incident.incident_id,
            )
    basic = await alone_incidents.stats()
    assert side_effects(basic) == NOTHING_WAITS | {
        (WEBHOOK, SideEffect.STATE_PENDING): 13,
        (POSTMORTEM, SideEffect.STATE_PARKED): 9,
    }
    assert basic.side_effects.oldest_pending_seconds == pytest.approx(22 * 60, abs=300)
    waiting = (await alone_incidents.stats("FULL")).side_effects.waiting
    assert [(each.effect, each.incident_id) for each in waiting] == [
        *((POSTMORTEM, each.incident_id) for each in reversed(incidents[:9])),
        *((WEBHOOK, each.incident_id) for each in list(reversed(incidents))[:11]),
    ]
    assert {each.last_error for each in waiting} == {"no luck"}


async def test_the_full_view_has_each_of_the_last_24_hours(
    alone_incidents: Incidents, alone_rows: "Rows"
) -> None:
    incidents = [await alone_incidents.resolved() for _ in range(5)]
    await effects_settled(alone_rows)
    this_hour: datetime = await alone_rows.fetchval("SELECT date_trunc('hour', now())")
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
            await alone_rows.execute(statement, time + half, incident.incident_id)
    found = await alone_incidents.stats("FULL")
    hours = found.incidents.hours
    read_in = found.read_time.ToDatetime(UTC).replace(minute=0, second=0, microsecond=0)
    starts = [read_in - timedelta(hours=ago) for ago in range(23, -1, -1)]
    assert [hour.start_time.ToDatetime(UTC) for hour in hours] == starts
    assert [hour.opened for hour in hours] == [opened_in.count(start) for start in starts]
    assert [hour.resolved for hour in hours] == [resolved_in.count(start) for start in starts]
    assert (sum(hour.opened for hour in hours), sum(hour.resolved for hour in hours)) == (3, 4)


async def test_the_basic_view_has_the_stats_without_the_lists(
    alone_incidents: Incidents, alone_rows: "Rows"
) -> None:
    incident = await alone_incidents.opened()
    await age(alone_rows, "last_progress_time", [incident.incident_id], timedelta(days=1))
    basic = await alone_incidents.stats()
    unspecified = await alone_incidents.stats(stats_pb.GetFlywheelStatsRequest.VIEW_UNSPECIFIED)
    full = await alone_incidents.stats("FULL")
    assert len(full.incidents.stuck_incidents) == 1
    assert len(full.incidents.hours) == 24
    for each in (basic, unspecified, full):
        assert each.incidents.stuck == 1
        for field in ("stuck_incidents", "hours"):
            assert each is full or not getattr(each.incidents, field)
            each.incidents.ClearField(field)
        each.ClearField("read_time")
        each.server.ClearField("process_time")
    assert basic == unspecified == full
