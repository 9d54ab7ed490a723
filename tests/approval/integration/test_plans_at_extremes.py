"""10,000 approvals of one incident and 50,000 dead letters: what a call costs is bounded all the same."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.approval.integration.test_plans_over_history import BOUNDS
from tests.approval.schemas import rows
from tests.callers import approvals_at
from tests.histories import approval_history
from tests.plans.checks import refuse_more_rows, refuse_scans
from tests.plans.plan import Plan
from tests.plans.recorded import recorded_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

INCIDENT = "INC-20260507-000001"
APPROVALS = 10_000
PARKED = 50_000
_APPROVALS = """
    INSERT INTO approvals (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, hook, parse_error,
        action_hash, risk, rationale, required_approvals, auto_execute, state, proposed_by, incident_verified, create_time,
        update_time, expire_time, content_hash)
    SELECT 'APR-20260507-' || to_char(number, 'FM000000'), $1, 'NO_ACTION', 'NO_ACTION', '', '', '', '', '', '', 'LOW', '', 1, FALSE, 'REJECTED',
        'proposer', TRUE, now() - interval '1 minute' * number, now() - interval '1 minute' * number, now(), ''
    FROM generate_series(1, $2::int) AS number
"""
_PARKED = """
    INSERT INTO outbox (topic, dedup_key, payload, state, next_attempt_time, last_error)
    SELECT 'incident.timeline', 'APR-20260507-' || to_char(number, 'FM000000') || '/rejected/', jsonb_build_object('incident_id', $1::text),
        'PARKED', now() - interval '1 minute' * number, 'NOT_FOUND'
    FROM generate_series(1, $2::int) AS number
"""
AT_MOST_COUNTED = {
    # At most 20,000 of a kind in one state are counted, and the oldest of so many are listed.
    "SELECT topic, 'PENDING', jobs": 20_000 + 200,
    "WITH open AS": 20_000 + 200,
    # The approvals of one incident in another order than that of their creation.
    "ORDER BY approvals.update_time DESC": APPROVALS,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plans(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sequence[Plan]]:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(approval_history())
        await rows(url, _APPROVALS, INCIDENT, APPROVALS)
        await rows(url, _PARKED, INCIDENT, PARKED)
        await rows(url, "ANALYZE approvals, outbox")
        file = tmp_path_factory.mktemp("plans") / "extremes.jsonl"
        service = await stack.enter_async_context(recorded_service("approval", url, file))
        approvals = await stack.enter_async_context(approvals_at(service.address))
        page = await approvals.list(incident_id=INCIDENT).page()
        await approvals.list(incident_id=INCIDENT, page_token=page.next_page_token).page()
        await approvals.list(incident_id=INCIDENT, states=["PENDING"]).page()
        await approvals.list(incident_id=INCIDENT, states=["SUCCEEDED"]).page()
        await approvals.list(incident_id=INCIDENT, order="UPDATE_TIME_DESC").page()
        parked = await approvals.list_deliveries(states=["PARKED"]).page()
        await approvals.list_deliveries(states=["PARKED"], page_token=parked.next_page_token).page()
        await approvals.list_deliveries(states=["PARKED"], topics=["EXECUTION"]).page()
        await approvals.list_deliveries(approval_id="APR-20260507-000777").page()
        await approvals.retry_deliveries(limit=10)
        stats = await approvals.stats(view="FULL")
        # What the gateway makes a page and series of: lists of twenty.
        assert stats.ByteSize() < 40_000
        yield service.plans()


async def test_no_statement_touches_more_rows_than_its_work_has(plans: Sequence[Plan]) -> None:
    refuse_scans(plans)
    refuse_more_rows(plans, BOUNDS | AT_MOST_COUNTED)
