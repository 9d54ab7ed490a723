"""The success rate of operations."""

import pytest

from tests.approval.hooks import WITHOUT_LIMITS, hook_variables, hooked_service
from tests.approval.schemas import approval_database
from tests.callers import Incidents, State
from tests.receiver import receiver, status
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_success_rate_is_withheld_below_the_minimum_of_samples_of_a_service(
    incident_service: RunningService, incidents: Incidents, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with approval_database() as url, receiver() as hooks:
        variables = {
            "APPROVAL_INCIDENT_TARGET": incident_service.address,
            "APPROVAL_MIN_SAMPLES": "4",
            **hook_variables(tmp_path_factory.mktemp("rated"), hooks),
            **WITHOUT_LIMITS,
        }
        async with hooked_service(url, hooks, variables) as rated:
            for code, succeeded in ((200, True), (500, False), (200, True)):
                hooks.answers.append(status(code))
                done = await rated.approvals.executed(await incidents.opened_id(), rated.new_action())
                assert (done.state == State.STATE_SUCCEEDED) is succeeded
            await rated.approvals.executed(await incidents.opened_id())
            stats = (await rated.approvals.stats()).executions
            assert (stats.samples, stats.successes, stats.noop_executions_total) == (3, 2, 1)
            assert not stats.HasField("success_rate")
            await rated.approvals.executed(await incidents.opened_id(), rated.new_action())
            stats = (await rated.approvals.stats()).executions
            assert (stats.samples, stats.successes) == (4, 3)
            assert stats.success_rate == pytest.approx(0.75)
