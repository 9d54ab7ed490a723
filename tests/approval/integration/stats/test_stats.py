"""GetFlywheelStats: every figure against what was done, on a service of its own."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from awoooi.flywheel.v1 import flywheel_stats_pb2
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb
from tests.approval.fronted import Fronted
from tests.approval.schemas import approval_database, rows
from tests.approval.scripted_incidents import ScriptedIncidents, scripted_incidents
from tests.callers import (
    RESTART,
    UNPARSABLE,
    Approvals,
    DeliveryState,
    Incidents,
    State,
    approvals_at,
)
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

Outcome = flywheel_stats_pb2.ExecutionOutcome
MIN_SAMPLES = 4


@pytest_asyncio.fixture(loop_scope="session")
async def front(incident_service: RunningService) -> AsyncIterator[ScriptedIncidents]:
    async with scripted_incidents(incident_service.address) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="session")
async def alone(front: ScriptedIncidents) -> AsyncIterator[RunningService]:
    """An approval service with a database of its own."""
    variables = {
        "APPROVAL_INCIDENT_TARGET": front.address,
        "APPROVAL_MIN_SAMPLES": f"{MIN_SAMPLES}",
        "APPROVAL_EXPIRE_EVERY": "24h",
    }
    async with approval_database() as url, healthy_service("approval", url, variables=variables) as running:
        yield running


def _states(entries: Any) -> Mapping[int, int]:
    found = {entry.state: entry.count for entry in entries}
    assert len(found) == len(entries), "a value comes twice"
    return found


def _outcomes(stats: pb.GetFlywheelStatsResponse) -> Mapping[int, int]:
    entries = stats.executions.executions_total
    assert len({entry.outcome for entry in entries}) == len(entries)
    return {entry.outcome: entry.count for entry in entries}


async def test_the_stats_follow_every_transition(
    alone: RunningService, front: ScriptedIncidents, incidents: Incidents
) -> None:
    async with approvals_at(alone.address) as approvals:
        stats = await approvals.stats()
        # From the start every value is there, at zero; what only the incident service knows is not.
        assert _states(stats.approvals.approvals) == dict.fromkeys(State.values()[1:], 0)
        assert _states(stats.deliveries.deliveries) == {
            DeliveryState.STATE_PENDING: 0,
            DeliveryState.STATE_PARKED: 0,
        }
        assert _outcomes(stats) == dict.fromkeys(Outcome.values()[1:], 0)
        assert stats.executions.noop_executions_total == 0
        assert stats.executions.noop_resolutions_total == 0
        assert stats.executions.window.ToTimedelta() == timedelta(hours=24)
        assert stats.approvals.oldest_pending_seconds == 0
        assert stats.deliveries.oldest_pending_seconds == 0
        assert stats.HasField("read_time")
        for section in ("incidents", "resolutions", "side_effects"):
            assert not stats.HasField(section)

        incident_ids = [await incidents.opened_id() for _ in range(6)]
        await approvals.proposed(incident_ids[0])
        await approvals.approved(incident_ids[1], RESTART)
        rejected = await approvals.proposed(incident_ids[2])
        await approvals.reject(rejected.approval_id)
        await approvals.executed(incident_ids[3], UNPARSABLE)
        delivered = await approvals.executed(incident_ids[4])
        await approvals.until_delivered(delivered.approval_id)
        await front.stop()
        waiting = await approvals.executed(incident_ids[5])
        unknown = await approvals.executed("INC-20200101-00000000DEAD")

        stats = await approvals.stats()
        assert _states(stats.approvals.approvals) == dict.fromkeys(State.values()[1:], 0) | {
            State.STATE_PENDING: 1,
            State.STATE_APPROVED: 1,
            State.STATE_REJECTED: 1,
            State.STATE_FAILED: 1,
            State.STATE_SUCCEEDED: 3,
        }
        assert _outcomes(stats) == dict.fromkeys(Outcome.values()[1:], 0) | {
            Outcome.EXECUTION_OUTCOME_FAILED: 1,
            Outcome.EXECUTION_OUTCOME_NOOP: 3,
        }
        # Neither an observation nor what could not be parsed is a repair.
        assert (stats.executions.samples, stats.executions.successes) == (0, 0)
        assert not stats.executions.HasField("success_rate")
        assert stats.executions.min_samples == MIN_SAMPLES
        assert stats.executions.noop_executions_total == 3
        assert stats.executions.noop_resolutions_total == 1
        assert _states(stats.deliveries.deliveries)[DeliveryState.STATE_PENDING] == 2
        assert stats.approvals.oldest_pending_seconds > 0
        assert stats.deliveries.oldest_pending_seconds > 0

        await front.start()
        await approvals.until_delivered(waiting.approval_id)
        await approvals.until_delivery(unknown.approval_id, DeliveryState.STATE_PARKED)
        for approval in (delivered, waiting, unknown):
            assert (await approvals.execute(approval.approval_id)).already_executed
        stats = await approvals.stats()
        assert _states(stats.deliveries.deliveries) == {
            DeliveryState.STATE_PENDING: 0,
            DeliveryState.STATE_PARKED: 1,
        }
        assert stats.deliveries.oldest_pending_seconds == 0
        assert stats.executions.noop_executions_total == 3
        assert stats.executions.noop_resolutions_total == 2

        await _repairs_are_rated(alone, approvals, delivered.approval_id)
        await _counters_survive(alone, front, stats)


async def _repairs_are_rated(alone: RunningService, approvals: Approvals, approval_id: str) -> None:
    insert = """
        INSERT INTO auto_repair_executions
            (approval_id, incident_id, target, operation, succeeded, output, error, executor, start_time, finish_time)
        SELECT $1, 'INC-20260507-99ADF2', 'prod/pod/x', '{}', $2, '', '', 'test', $3 + now(), $3 + now()
    """
    for succeeded, age in ((True, 1), (True, 23), (False, 2)):
        await rows(alone.database_url, insert, approval_id, succeeded, -timedelta(hours=age))
    # Older than the window: not counted.
    await rows(alone.database_url, insert, approval_id, False, -timedelta(hours=25))
    executions = (await approvals.stats()).executions
    assert (executions.samples, executions.successes) == (MIN_SAMPLES - 1, 2)
    assert not executions.HasField("success_rate")
    await rows(alone.database_url, insert, approval_id, True, timedelta(0))
    executions = (await approvals.stats()).executions
    assert (executions.samples, executions.successes) == (MIN_SAMPLES, 3)
    assert executions.success_rate == pytest.approx(3 / 4)


async def _counters_survive(
    alone: RunningService, front: ScriptedIncidents, before: pb.GetFlywheelStatsResponse
) -> None:
    """Another process over the same database has the same totals when the counted rows are gone."""
    await rows(alone.database_url, "DELETE FROM outbox WHERE state = 'DONE'")
    variables = {"APPROVAL_INCIDENT_TARGET": front.address}
    async with (
        healthy_service("approval", alone.database_url, variables=variables) as again,
        approvals_at(again.address) as approvals,
    ):
        after = await approvals.stats()
    assert after.executions.executions_total == before.executions.executions_total
    assert after.executions.noop_executions_total == before.executions.noop_executions_total
    assert after.executions.noop_resolutions_total == before.executions.noop_resolutions_total
    assert after.approvals.approvals == before.approvals.approvals


async def test_lists_and_hours_are_in_the_full_view_only(fronted: Fronted, incidents: Incidents) -> None:
    approvals = fronted.approvals
    pending = await approvals.proposed(await incidents.opened_id())
    await fronted.front.stop()
    waiting = await approvals.executed("INC-20200101-00000000DEAD")
    basic = await approvals.stats()
    assert not basic.approvals.pending
    assert not basic.deliveries.waiting
    assert not basic.executions.hours
    full = await approvals.stats(pb.GetFlywheelStatsRequest.VIEW_FULL)
    # Of each list the first twenty: what others left may come before.
    assert len(full.approvals.pending) == 20 or pending.approval_id in [
        entry.approval_id for entry in full.approvals.pending
    ]
    assert len(full.deliveries.waiting) == 20 or waiting.approval_id in [
        entry.approval_id for entry in full.deliveries.waiting
    ]
    assert len(full.executions.hours) == 24
    executions = sum(entry.count for hour in full.executions.hours for entry in hour.executions)
    assert executions == sum(_outcomes(full).values())


async def test_a_cancelled_indeterminate_execution_is_counted_in_its_hour(
    fronted: Fronted, incidents: Incidents
) -> None:
    approvals = fronted.approvals
    approval = await approvals.approved(await incidents.opened_id(), RESTART)
    # As a process that died in the middle of the operation leaves it.
    await rows(
        fronted.service.database_url,
        "UPDATE approvals SET state = 'INDETERMINATE', execute_time = now(), finish_time = now()"
        " WHERE approval_id = $1",
        approval.approval_id,
    )
    try:
        await approvals.cancel(approval.approval_id)
        full = await approvals.stats(pb.GetFlywheelStatsRequest.VIEW_FULL)
        assert len(full.executions.hours) == 24
    finally:
        await rows(
            fronted.service.database_url,
            "DELETE FROM approvals WHERE approval_id = $1",
            approval.approval_id,
        )
