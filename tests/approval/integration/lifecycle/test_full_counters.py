"""Counters of the approval service at their maximum: no call fails for them, and what is full stays so."""

import secrets

import asyncpg
import pytest

from approval.counters import APPROVALS, EXECUTIONS, NOOP_RESOLUTIONS
from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.approval.conftest import AT_REST
from tests.callers import UNPARSABLE, Approvals, Incidents, State, approvals_at
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

MAX_BIGINT = 2**63 - 1
FULL = str(MAX_BIGINT)


def version(approval: approval_pb2.Approval) -> str:
    """The version in the etag; with it is its time."""
    return approval.etag.partition("-")[0]


async def fill(service: RunningService, approval_id: str) -> None:
    """Put the version of an approval, and the attempts of its jobs, at their maximum."""
    connection = await asyncpg.connect(service.database_url)
    try:
        await connection.execute(
            "UPDATE approvals SET version = $1 WHERE approval_id = $2", MAX_BIGINT, approval_id
        )
        await connection.execute(
            "UPDATE outbox SET attempts = 2147483647 WHERE payload ->> 'approval_id' = $1", approval_id
        )
    finally:
        await connection.close()


async def test_a_full_version_stays_from_the_decision_to_the_acknowledgement(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval_id = (await approvals.proposed(await incidents.opened_id())).approval_id
    await fill(approval_service, approval_id)
    current = (await approvals.get(approval_id)).etag
    assert version(await approvals.approve(approval_id, etag=current)) == FULL
    executed = (await approvals.execute(approval_id)).approval
    assert (executed.state, version(executed)) == (State.STATE_SUCCEEDED, FULL)
    assert version(await approvals.until_delivered(approval_id)) == FULL


@pytest.mark.parametrize("end", ["reject", "cancel"])
async def test_a_full_version_stays_at_every_other_end(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, end: str
) -> None:
    approval_id = (await approvals.proposed(await incidents.opened_id())).approval_id
    await fill(approval_service, approval_id)
    call = approvals.reject if end == "reject" else approvals.cancel
    ended = await call(approval_id, reason="no", actor="approver" if end == "reject" else "proposer")
    assert version(ended) == FULL


async def test_a_full_version_stays_when_an_operation_runs(
    approvals: Approvals,
    incidents: Incidents,
    approval_service: RunningService,
    incident_service: RunningService,
) -> None:
    # A target of its own: another test's operation on it would begin a cool-down.
    action = f"RESTART deployment/full-{secrets.token_hex(4)} -n prod"
    approval_id = (await approvals.approved(await incidents.opened_id(), action)).approval_id
    await fill(approval_service, approval_id)
    # A replica that has an executor.
    variables = {
        "APPROVAL_INCIDENT_TARGET": incident_service.address,
        "APPROVAL_EXECUTORS": "dry-run",
        **AT_REST,
    }
    async with (
        healthy_service("approval", approval_service.database_url, variables=variables) as replica,
        approvals_at(replica.address) as operating,
    ):
        executed = (await operating.execute(approval_id)).approval
    assert (executed.state, version(executed)) == (State.STATE_SUCCEEDED, FULL)


async def test_a_full_version_stays_when_an_action_cannot_be_parsed(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval_id = (await approvals.approved(await incidents.opened_id(), UNPARSABLE)).approval_id
    await fill(approval_service, approval_id)
    executed = (await approvals.execute(approval_id)).approval
    assert (executed.state, version(executed)) == (State.STATE_FAILED, FULL)


async def test_an_approval_for_the_last_opening_resolves_it(
    approvals: Approvals, incidents: Incidents, incident_service: RunningService
) -> None:
    incident_id = await incidents.opened_id()
    connection = await asyncpg.connect(incident_service.database_url)
    try:
        await connection.execute(
            "UPDATE incidents SET resolution_number = 2147483647 WHERE incident_id = $1", incident_id
        )
    finally:
        await connection.close()
    approval = await approvals.executed(incident_id)
    await approvals.until_delivered(approval.approval_id)
    assert (await incidents.get(incident_id)).state == incident_pb2.Incident.STATE_RESOLVED


async def test_full_totals_stay_and_the_stats_are_read(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    connection = await asyncpg.connect(approval_service.database_url)
    before = [tuple(row) for row in await connection.fetch("SELECT name, label, shard, value FROM counters")]
    try:
        await connection.execute(
            """
            INSERT INTO counters (name, label, shard, value)
            SELECT name, label, shard, $1 FROM generate_series(0, 63) AS shard,
                unnest($2::text[], $3::text[]) AS counter (name, label)
            ON CONFLICT (name, label, shard) DO UPDATE SET value = excluded.value
            """,
            MAX_BIGINT,
            [APPROVALS, EXECUTIONS, NOOP_RESOLUTIONS],
            ["SUCCEEDED", "NOOP", ""],
        )
        approval = await approvals.executed(await incidents.opened_id())
        await approvals.until_delivered(approval.approval_id)
        stats = await approvals.stats("FULL")
        assert stats.executions.noop_executions_total == MAX_BIGINT
        assert stats.executions.noop_resolutions_total == MAX_BIGINT
    finally:
        await connection.execute("TRUNCATE counters")
        await connection.executemany(
            "INSERT INTO counters (name, label, shard, value) VALUES ($1, $2, $3, $4)", before
        )
        await connection.close()
