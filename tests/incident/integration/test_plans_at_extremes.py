"""A timeline of 100,000 entries and 50,000 dead letters: what a call costs is bounded all the same."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.approval.schemas import rows
from tests.callers import incidents_at
from tests.histories import incident_history
from tests.incident.integration.test_plans import BOUNDS
from tests.plans.checks import refuse_more_rows, refuse_scans
from tests.plans.plan import Plan
from tests.plans.recorded import recorded_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "INC-20260507-000001"
ENTRIES = 100_000
PARKED = 50_000
_LONG_TIMELINE = """
    WITH incident AS (
        INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by,
            content_hash, last_progress_time)
        VALUES ($1, 'flapping', '', 'HIGH', 'OPEN', 'flapping', '{}', '', '', '', now() - interval '1 day')
        RETURNING incident_id
    )
    INSERT INTO incident_events (event_id, incident_id, type, actor, summary, attributes, resolution_number)
    SELECT 'flapping/' || number, incident_id, CASE WHEN number % 10 = 0 THEN 'REJECTED' ELSE 'DEDUPLICATED' END, '', '',
        jsonb_build_object('approval_id', number::text), 0
    FROM incident CROSS JOIN generate_series(1, $2::int) AS number
"""
_PARKED = """
    INSERT INTO outbox (topic, dedup_key, payload, state, next_attempt_time, last_error, create_time)
    SELECT 'effect.webhook', incident_id || '/' || 1 + number / resolved, jsonb_build_object('incident_id', incident_id,
            'resolution_number', 1, 'resolution_type', 'HUMAN', 'resolution_seconds', 1),
        'PARKED', now() - interval '1 minute' * number, 'HTTP 503', now() - interval '1 hour'
    FROM (
        SELECT array_agg(incident_id) AS incidents, count(*) AS resolved FROM incidents WHERE state = 'RESOLVED'
    ) AS those, generate_series(1, $1::int) AS number, LATERAL (
        SELECT incidents[1 + number % resolved] AS incident_id
    ) AS one
    ON CONFLICT DO NOTHING
"""
# What the stats say of a kind of side effects in one state: at most 20,000 are counted, and the oldest of so many are listed.
AT_MOST_COUNTED = {
    "SELECT topic, 'PENDING', jobs": 20_000 + 200,
    "WITH open AS": 20_000 + 200,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plans(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sequence[Plan]]:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(incident_history())
        await rows(url, _LONG_TIMELINE, LONG, ENTRIES)
        await rows(url, _PARKED, PARKED)
        await rows(url, "ANALYZE incident_events, outbox")
        file = tmp_path_factory.mktemp("plans") / "extremes.jsonl"
        service = await stack.enter_async_context(recorded_service("incident", url, file))
        incidents = await stack.enter_async_context(incidents_at(service.address))
        first = await incidents.list_events(LONG).page()
        await incidents.list_events(LONG, page_token=first.next_page_token).page()
        rare = await incidents.list_events(LONG, types=["NOTE"]).page()
        assert not rare.events
        assert rare.next_page_token
        await incidents.list(fingerprint="flapping").page()
        await incidents.list(stuck=True).page()
        parked = await incidents.list_side_effects(states=["PARKED"]).page()
        await incidents.list_side_effects(states=["PARKED"], page_token=parked.next_page_token).page()
        await incidents.list_side_effects(states=["PARKED"], effects=["POSTMORTEM"]).page()
        await incidents.retry_side_effects(limit=10)
        stats = await incidents.stats(view="FULL")
        # What the gateway makes a page and series of: lists of twenty.
        assert stats.ByteSize() < 40_000
        await incidents.add_event(LONG, type="NOTE", summary="looked")
        await incidents.report(fingerprint="flapping")
        await incidents.resolve(LONG, resolution_type="HUMAN", note="fixed")
        await incidents.reopen(LONG, reason="again")
        yield service.plans()


async def test_no_statement_touches_more_rows_than_its_work_has(plans: Sequence[Plan]) -> None:
    refuse_scans(plans)
    refuse_more_rows(plans, BOUNDS | AT_MOST_COUNTED)
