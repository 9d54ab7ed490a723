"""What the approval service costs grows with its work, not with its history: the plans of every statement that it executes.

A service over a database with a history is called in every way, and its background work runs; all plans are recorded.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from tests.approval.schemas import approval_database, rows
from tests.callers import RESTART, Approvals, Incidents, approvals_at, incidents_at
from tests.eventually import eventually
from tests.histories import INCIDENTS, approval_history, incident_history
from tests.plans.checks import (
    plans_when_empty,
    refuse_missing,
    refuse_more_rows,
    refuse_other_ways,
    refuse_scans,
)
from tests.plans.plan import Plan
from tests.plans.recorded import RecordedService, recorded_service
from tests.plans.statements import statements_of
from tests.services import healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = INCIDENTS // 10
# Statements that touch more rows, by a part of them: the work of a day.
BOUNDS = {
    # A batch of the reconciler.
    "FROM approvals WHERE (update_time, approval_id) <": 1000,
    "FROM approvals ORDER BY update_time DESC": 1000,
    "SELECT hour,": 3 * DAY,
    "FROM auto_repair_executions WHERE finish_time >": 2 * DAY,
}
ELSEWHERE = "tests/approval/integration/test_plans.py"
EXEMPT = {
    "approval.importing": "an import reads what it imports",
    "approval.replay": "a replay reads the history that it replays",
    "approval.recovery": ELSEWHERE,
    "approval.execution.repository._ABANDONED": ELSEWHERE,
    "approval.execution.repository._GIVE_BACK": "by its key, as _FINISH_RUN",
    "approval.execution.repository._HEARTBEAT": "by its key, as _FINISH_RUN",
    "approval.delivery.resolve_repository._COUNT": "of more than a batch; it finds them as _FIND does",
    "approval.delivery.resolve_repository._IS_UNACKNOWLEDGED_NOOP": "by its key",
    "approval.notification.repository": ELSEWHERE,
    "approval.delivery.comparison_repository._WITHDRAW": ELSEWHERE,
    "approval.delivery.comparison_repository._MARK": ELSEWHERE,
    "approval.delivery.comparison_repository._ACCEPT": ELSEWHERE,
    "approval.delivery.comparison_repository._LIST_UNKNOWN": ELSEWHERE,
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the service has executed."""

    plans: Sequence[Plan]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Recorded]:
    async with AsyncExitStack() as stack:
        incident_url = await stack.enter_async_context(incident_history())
        url = await stack.enter_async_context(approval_history())
        file = tmp_path_factory.mktemp("plans") / "approval.jsonl"
        incident = await stack.enter_async_context(healthy_service("incident", incident_url))
        variables = {
            "APPROVAL_INCIDENT_TARGET": incident.address,
            "APPROVAL_EXECUTORS": "dry-run",
            "APPROVAL_RETENTION": f"{24 * 179}h",
            "APPROVAL_EXPIRE_EVERY": "1s",
        }
        service = await stack.enter_async_context(
            recorded_service("approval", url, file, variables=variables)
        )
        incidents = await stack.enter_async_context(incidents_at(incident.address))
        approvals = await stack.enter_async_context(approvals_at(service.address))
        await _lists(approvals, url)
        await _life(approvals, incidents)
        await _dead_letters(approvals)
        await _watch(approvals, incidents)
        await approvals.reconcile(validate_only=True)
        await approvals.reconcile()
        await eventually(lambda: asyncio.to_thread(_has_worked, service))
        yield Recorded(service.plans())


async def _lists(approvals: Approvals, url: str) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=170)
    ((incident_id, approval_id),) = await rows(
        url, "SELECT incident_id, approval_id FROM approvals ORDER BY create_time DESC LIMIT 1"
    )
    criteria: Sequence[Mapping[str, Any]] = (
        {},
        {"states": ["PENDING"]},
        {"states": ["PENDING", "APPROVED"]},
        {"states": ["CANCELLED"]},
        {"states": ["SUCCEEDED"]},
        {"incident_id": incident_id},
        {"incident_id": incident_id, "states": ["EXECUTING"]},
        {"risks": ["CRITICAL"]},
        {"operation_kinds": ["SCALE"]},
        {"recoveries": ["PENDING"]},
        {"incident_unknown": True},
        {"create_time_start": long_ago, "create_time_end": long_ago + timedelta(days=1)},
    )
    for order in ("CREATE_TIME_DESC", "CREATE_TIME_ASC", "UPDATE_TIME_DESC"):
        for each in criteria:
            page = await approvals.list(order=order, page_size=5, **each).page()
            if page.next_page_token:
                await approvals.list(
                    order=order,
                    page_size=5,
                    page_token=page.next_page_token,
                    **each,
                ).page()
    runs: Sequence[Mapping[str, Any]] = (
        {},
        {"approval_id": approval_id},
        {"incident_id": incident_id},
        {"incident_id": "INC-20260507-99ADF2"},
        {"succeeded": False},
        {"start_time_end": long_ago},
    )
    for each in runs:
        await approvals.list_executions(page_size=5, **each).page()
    state_lists: Sequence[Sequence[Any]] = (
        [],
        ["PENDING"],
        ["PARKED"],
        ["DISMISSED"],
        ["PENDING", "PARKED"],
        ["DONE"],
    )
    for states in state_lists:
        await approvals.list_deliveries(states=states).page()
    await approvals.list_deliveries(topics=["OTHER", "NOTIFICATION"]).page()
    await approvals.list_deliveries(approval_id=approval_id).page()
    await approvals.stats(view="FULL")


async def _life(approvals: Approvals, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id()
    first = await approvals.proposed(incident_id, request_id="plans-1")
    await approvals.proposed(incident_id, request_id="plans-1")
    second = await approvals.proposed(incident_id, RESTART, supersedes=first.approval_id)
    await approvals.approve(second.approval_id, actor="one")
    await approvals.execute(second.approval_id, validate_only=True)
    await approvals.execute(second.approval_id)
    await approvals.until_delivered(second.approval_id)
    other = await incidents.opened_id()
    noop = await approvals.executed(other)
    await approvals.until_delivered(noop.approval_id)
    automatic = await approvals.proposed(await incidents.opened_id(), auto_execute=True)
    await approvals.approve(automatic.approval_id)
    await approvals.until_delivered(automatic.approval_id)
    third = await incidents.opened_id()
    await approvals.reject((await approvals.proposed(third)).approval_id, reason="no")
    await approvals.cancel((await approvals.proposed(third)).approval_id, reason="no")
    quorum = await approvals.proposed(third, required_approvals=2)
    await approvals.approve(quorum.approval_id, actor="one")
    canary = await incidents.opened_id(labels={"flywheel-canary": "true"})
    seen = await approvals.executed(canary)
    await approvals.until_delivered(seen.approval_id)
    await approvals.remove_canary(seen.approval_id)


async def _dead_letters(approvals: Approvals) -> None:
    parked = [each async for each in approvals.list_deliveries(states=["PARKED"], topics=["TIMELINE"])]
    await approvals.retry_delivery(parked[0].delivery_id)
    await approvals.dismiss_delivery(parked[1].delivery_id, reason="too late")
    await approvals.retry_deliveries(limit=2)


async def _watch(approvals: Approvals, incidents: Incidents) -> None:
    async with asyncio.timeout(60):
        token = ""
        async for response in approvals.watch(include_existing=True, heartbeats=True, states=["PENDING"]):
            if token := response.resume_token:
                break
        await approvals.proposed(await incidents.opened_id())
        async for response in approvals.watch(resume_token=token, heartbeats=True, states=["PENDING"]):
            if response.HasField("approval"):
                break


# The last of each piece of background work.
_WORK = (
    "remove_approvals",
    "UPDATE outbox SET next_attempt_time = now() WHERE topic",
    "DELETE FROM outbox WHERE job_id",
)


def _has_worked(service: RecordedService) -> bool:
    executed = [plan.statement for plan in service.plans()]
    return all(any(part in statement for statement in executed) for part in _WORK)


async def test_no_table_that_grows_is_read_from_end_to_end(recorded: Recorded) -> None:
    refuse_scans(recorded.plans)


async def test_no_statement_touches_more_rows_than_its_work_has(recorded: Recorded) -> None:
    refuse_more_rows(recorded.plans, BOUNDS)


async def test_every_statement_of_the_service_was_executed(recorded: Recorded) -> None:
    refuse_missing(recorded.plans, statements_of("approval"), EXEMPT)


async def test_a_plan_that_was_made_while_all_was_empty_reads_in_the_same_way(recorded: Recorded) -> None:
    async with approval_database() as url:
        # Any index of what is PARKED will do: so many are read.
        refuse_other_ways(await plans_when_empty(url, recorded.plans), ["WITH open AS"])
