"""A replay on a database that an approval service has written, and on a large one."""

import os
import time
from datetime import UTC, datetime

import asyncpg
import pytest

from approval.policy.file import parse_policy
from approval.replay.model import Replay
from approval.replay.repository import read_proposals
from servicekit.database.engine import create_engine
from tests.approval.integration.policy.conftest import ruled, ruled_service
from tests.approval.integration.policy.ruled import POLICY, STAGING, Ruled
from tests.approval.schemas import rows
from tests.callers import Incidents

__all__ = ["ruled", "ruled_service"]

# Without the rule for observations, and wider about restarts.
OTHER = """
[rules.repair]
actions = ["RESTART"]
risks = ["LOW", "MEDIUM"]
namespaces = ["staging"]
severities = ["LOW", "HIGH"]
"""
BEGINNING = datetime.min.replace(tzinfo=UTC)


async def replayed(url: str, policy: str, *, since: datetime = BEGINNING) -> dict[tuple[str, str], int]:
    """How many proposals have which decisions before and after."""
    replay = Replay(parse_policy(policy.encode()))
    engine = create_engine(url, application_name="tests", pool_size=1)
    try:
        async with engine.connect() as connection:
            async for proposals in read_proposals(connection, since=since):
                replay.add(proposals)
    finally:
        await engine.dispose()
    return {
        (before.rule or before.kind, after.rule or after.kind): cell.count
        for before, after, cell in replay.cells()
    }


@pytest.mark.asyncio(loop_scope="session")
async def test_the_rules_in_force_decide_the_same_and_others_otherwise(
    ruled: Ruled, incidents: Incidents
) -> None:
    low = await incidents.opened_id(severity="LOW")
    high = await incidents.opened_id(severity="HIGH")
    await ruled.approvals.proposed(low, actor="ai")
    await ruled.approvals.proposed(low, STAGING, actor="ai", confidence=0.95)
    restart = await ruled.approvals.proposed(high, STAGING, actor="ai", confidence=0.95)
    await ruled.approvals.reject(restart.approval_id, reason="no")
    url = ruled.service.database_url
    assert url is not None
    assert await replayed(url, POLICY) == {
        ("observe", "observe"): 1,
        ("repair-staging", "repair-staging"): 1,
        ("REJECTED", "PEOPLE"): 1,
    }
    assert await replayed(url, OTHER) == {
        ("observe", "PEOPLE"): 1,
        ("repair-staging", "repair"): 1,
        ("REJECTED", "repair"): 1,
    }
    assert await replayed(url, OTHER, since=datetime(2100, 1, 1, tzinfo=UTC)) == {}
    # What a version before this one has stored has no severity.
    await rows(url, "UPDATE approvals SET incident_severity = NULL")
    assert (await replayed(url, OTHER))["REJECTED", "UNKNOWN"] == 1


_MANY = """
    INSERT INTO approvals (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, hook,
        parse_error, action_hash, risk, rationale, confidence, required_approvals, auto_execute, state, proposed_by,
        incident_verified, incident_severity, create_time, expire_time, content_hash)
    SELECT 'APR-20260101-' || lpad(to_hex(n), 12, '0'), 'INC-20260101-AAAAAA', '', CASE WHEN n % 2 = 0 THEN 'NO_ACTION'
        ELSE 'RESTART' END, '', 'web', 'staging', '', '', '', 'LOW', '', 0.95, 1, false, 'CANCELLED', 'ai', true,
        CASE WHEN n % 3 = 0 THEN 'HIGH' ELSE 'LOW' END, now() - n * interval '1 second', now() + interval '1 day', ''
    FROM generate_series(1, $1::int) AS n
"""
_DECISIONS = """
    INSERT INTO approval_decisions (approval_id, actor, kind, reason, policy_rule)
    SELECT approval_id, 'policy:observe', 'APPROVE', '', 'observe' FROM approvals WHERE operation_kind = 'NO_ACTION'
"""


async def test_many_proposals_are_read_in_batches(database: str) -> None:
    # FLYWHEEL_TEST_REPLAY=100000 is the long form.
    number = int(os.environ.get("FLYWHEEL_TEST_REPLAY", "12000"))
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(_MANY, number)
        await connection.execute(_DECISIONS)
    finally:
        await connection.close()
    began, used = time.monotonic(), time.process_time()
    counts = await replayed(database, OTHER)
    seconds, used = time.monotonic() - began, time.process_time() - used
    assert counts == {
        ("observe", "PEOPLE"): number // 2,
        ("CANCELLED", "repair"): number - number // 2,
    }
    print(f"{number} proposals in {seconds:.1f} s, {used:.1f} s of them this process")
    # 100,000 in under ten seconds; by what this process uses, which does not depend on what else the machine does.
    assert used < number / 10_000
