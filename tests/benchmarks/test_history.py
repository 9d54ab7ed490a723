"""The history that benchmarks fill in is one that the services could have written: their own figures, lists and checks agree."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats
from awoooi.incident.v1 import incident_pb2
from benchmarks.errors import BenchmarkError
from benchmarks.history.bulk import bulk_load
from tests.approval.schemas import rows
from tests.callers import Approvals, Incidents, approvals_at, incidents_at
from tests.histories import INCIDENTS, approval_history, incident_history
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Filled:
    """Both services over their filled databases."""

    incidents: Incidents
    approvals: Approvals
    # By service.
    urls: Mapping[str, str]

    async def counted(self, service: str, statement: str) -> dict[str, Any]:
        """The rows of a query with two columns."""
        return dict(await rows(self.urls[service], statement))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled() -> AsyncIterator[Filled]:
    async with AsyncExitStack() as stack:
        incident_url = await stack.enter_async_context(incident_history())
        approval_url = await stack.enter_async_context(approval_history())
        incident: RunningService = await stack.enter_async_context(healthy_service("incident", incident_url))
        variables = {"APPROVAL_INCIDENT_TARGET": incident.address}
        approval = await stack.enter_async_context(
            healthy_service("approval", approval_url, variables=variables)
        )
        yield Filled(
            await stack.enter_async_context(incidents_at(incident.address)),
            await stack.enter_async_context(approvals_at(approval.address)),
            {"incident": incident_url, "approval": approval_url},
        )


async def test_the_figures_of_incidents_are_those_of_the_rows(filled: Filled) -> None:
    found = await filled.incidents.stats(view="FULL")

    opened = {
        incident_pb2.Severity.Name(each.severity).removeprefix("SEVERITY_"): each.count
        for each in found.incidents.opened_total
    }
    assert opened == await filled.counted("incident", "SELECT severity, count(*) FROM incidents GROUP BY 1")
    assert sum(opened.values()) == INCIDENTS
    resolved = {
        incident_pb2.ResolutionType.Name(each.resolution_type).removeprefix("RESOLUTION_TYPE_"): each.count
        for each in found.resolutions.resolved_total
        if each.count
    }
    by_type = "SELECT resolution_type, count(*) FROM incidents WHERE state = 'RESOLVED' GROUP BY 1"
    assert resolved == await filled.counted("incident", by_type)
    unresolved = {
        incident_pb2.Incident.State.Name(each.state).removeprefix("STATE_"): each.count
        for each in found.incidents.incidents
        if each.count
    }
    by_state = "SELECT state, count(*) FROM incidents WHERE state <> 'RESOLVED' GROUP BY 1"
    assert unresolved == await filled.counted("incident", by_state)
    ((seconds, count),) = await rows(
        filled.urls["incident"], "SELECT sum(resolution_seconds), count(*) FROM dispositions"
    )
    assert found.resolutions.resolution_seconds.count == count
    assert found.resolutions.resolution_seconds.sum == pytest.approx(seconds, abs=0.001 * count)
    reasons = {each.reason for each in found.incidents.stuck_by_reason if each.count}
    assert {
        stats.STUCK_REASON_NO_APPROVAL,
        stats.STUCK_REASON_APPROVAL_PENDING,
        stats.STUCK_REASON_APPROVED_NOT_EXECUTED,
        stats.STUCK_REASON_EXECUTION_FAILED,
    } <= reasons


async def test_the_figures_of_approvals_are_those_of_the_rows(filled: Filled) -> None:
    found = await filled.approvals.stats(view="FULL")

    states = {
        approval_pb2.Approval.State.Name(each.state).removeprefix("STATE_"): each.count
        for each in found.approvals.approvals
        if each.count
    }
    assert states == await filled.counted("approval", "SELECT state, count(*) FROM approvals GROUP BY 1")
    ((executed, succeeded),) = await rows(
        filled.urls["approval"],
        "SELECT count(*), count(*) FILTER (WHERE succeeded) FROM auto_repair_executions",
    )
    assert executed >= INCIDENTS
    totals = {
        stats.ExecutionOutcome.Name(each.outcome): each.count for each in found.executions.executions_total
    }
    assert totals["EXECUTION_OUTCOME_SUCCEEDED"] == succeeded
    assert totals["EXECUTION_OUTCOME_FAILED"] == executed - succeeded
    assert totals["EXECUTION_OUTCOME_NOOP"] == found.executions.noop_executions_total
    # The 1:1 check: every noop execution has resolved its incident.
    assert found.executions.noop_resolutions_total == found.executions.noop_executions_total
    assert found.approvals.incident_unknown == 0
    # A tenth of the incidents belongs to the last day.
    assert found.executions.samples == pytest.approx(INCIDENTS // 10, rel=0.1)


async def test_the_lists_read_it_back(filled: Filled) -> None:
    incidents = [each async for each in filled.incidents.list(states=["OPEN", "INVESTIGATING"])]
    ((unresolved,),) = await rows(
        filled.urls["incident"], "SELECT count(*) FROM incidents WHERE state <> 'RESOLVED'"
    )
    assert len(incidents) == unresolved > 0
    ((incident_id, events),) = await rows(
        filled.urls["incident"],
        "SELECT incident_id, count(*) FROM incident_events GROUP BY 1 ORDER BY 2 DESC LIMIT 1",
    )
    assert events > INCIDENTS // 20
    assert len(await filled.incidents.events(incident_id)) == events
    ((retried,),) = await rows(
        filled.urls["approval"],
        "SELECT incident_id FROM approvals GROUP BY 1 HAVING count(*) = 2 ORDER BY 1 LIMIT 1",
    )
    assert (await filled.incidents.get(retried)).state == incident_pb2.Incident.STATE_RESOLVED
    approvals = [each async for each in filled.approvals.list(incident_id=retried)]
    runs = [each async for each in filled.approvals.list_executions(incident_id=retried)]
    assert runs[0].succeeded
    assert {each.approval_id for each in runs} == {each.approval_id for each in approvals}
    timeline = [each.attributes.get("approval_id") for each in await filled.incidents.events(retried)]
    assert {each.approval_id for each in approvals} == set(filter(None, timeline))


async def test_a_resolution_of_it_can_be_reopened_and_resolved_again(filled: Filled) -> None:
    ((incident_id,),) = await rows(
        filled.urls["incident"],
        "SELECT incident_id FROM incidents WHERE state = 'RESOLVED' ORDER BY create_time LIMIT 1",
    )
    reopened = await filled.incidents.reopen(incident_id, reason="it came back")
    assert reopened.state == incident_pb2.Incident.STATE_OPEN
    resolved = await filled.incidents.resolve(incident_id, resolution_type="HUMAN", note="restarted by hand")
    assert resolved.incident.resolution_number == 2


async def test_nothing_of_it_is_to_be_reconciled(filled: Filled) -> None:
    found = await filled.approvals.reconcile(validate_only=True)
    assert not found.approval_ids


async def test_its_audit_trail_verifies(filled: Filled, tmp_path: Path) -> None:
    variables = {f"{service.upper()}_DATABASE_URL": url for service, url in filled.urls.items()}
    file = tmp_path / "audit.jsonl"
    await _audit(variables, "export", "-o", file)
    assert (await _audit(variables, "verify", file)).count(", unchanged;") == 2


async def _audit(variables: Mapping[str, str], *arguments: object) -> str:
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "flywheel", "audit", *map(str, arguments)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


async def test_every_key_index_and_trigger_is_back_and_is_used(filled: Filled) -> None:
    for service, url in filled.urls.items():
        assert await rows(url, "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid") == []
        assert await rows(url, "SELECT tgname FROM pg_trigger WHERE tgenabled = 'D'") == [], service
        assert await rows(url, "SELECT conname FROM pg_constraint WHERE NOT convalidated") == []
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await rows(
            filled.urls["incident"],
            "INSERT INTO knowledge_uses (incident_id, resolution_number, knowledge_id, held) VALUES ('x', 1, 'x', TRUE)",
        )


async def test_a_database_with_rows_is_refused(filled: Filled) -> None:
    with pytest.raises(BenchmarkError, match="has rows"):
        async with bulk_load(filled.urls["incident"], ["incidents"], lambda _text: None):
            pass
