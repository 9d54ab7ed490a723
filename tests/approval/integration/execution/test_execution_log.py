"""ListExecutions: the log of the operations that were run."""

import pytest

from tests.approval.schemas import rows
from tests.callers import Approvals, Incidents
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_no_action_and_unparsable_actions_leave_no_row_in_the_execution_log(
    approvals: Approvals, incidents: Incidents
) -> None:
    for action in ("NO_ACTION", "whatever"):
        approval = await approvals.executed(await incidents.opened_id(), action)
        assert not (await approvals.list_executions(approval_id=approval.approval_id).page()).executions


async def test_the_execution_log_is_filtered_and_paged_newest_first(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    approval = await approvals.proposed(await incidents.opened_id())
    for succeeded in (True, False, True):
        await rows(
            approval_service.database_url,
            """
            INSERT INTO auto_repair_executions
                (approval_id, incident_id, target, operation, succeeded, output, error, executor, start_time)
            VALUES ($1, $2, 'prod/deployment/api', $3, $4, 'rolled out', '', 'kubernetes', now())
            """,
            approval.approval_id,
            approval.incident_id,
            '{"kind": "RESTART", "resource_kind": "deployment", "name": "api", "namespace": "prod"}',
            succeeded,
        )
    first = await approvals.list_executions(approval_id=approval.approval_id, page_size=2).page()
    assert [execution.succeeded for execution in first.executions] == [True, False]
    rest = await approvals.list_executions(
        approval_id=approval.approval_id, page_token=first.next_page_token
    ).page()
    assert [execution.succeeded for execution in rest.executions] == [True]
    assert rest.next_page_token == ""
    failed = approvals.list_executions(incident_id=approval.incident_id, succeeded=False)
    (execution,) = [execution async for execution in failed]
    assert execution.operation.name == "api"
    assert (execution.executor, execution.output) == ("kubernetes", "rolled out")
