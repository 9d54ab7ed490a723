"""People are notified of a repair that did not help, and not of one that a later one has taken over."""

from pathlib import Path

import pytest

from tests.approval.conftest import AT_REST
from tests.approval.integration.notification.notified import messages, received
from tests.approval.integration.recovery.conftest import Recovery, Verified
from tests.approval.schemas import approval_database
from tests.approval.simulated_target import simulated_target, verified_by
from tests.callers import Incidents, approvals_at
from tests.receiver import receiver
from tests.services import RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_people_are_notified_of_a_repair_that_did_not_help(
    incident_service: RunningService, incidents: Incidents, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[notifications.all]\nchannels = ["oncall"]\nevents = ["NOT_RECOVERED"]\n')
    async with simulated_target() as target, receiver() as oncall, approval_database() as url:
        variables = {
            **AT_REST,
            **verified_by(target, tmp_path),
            "APPROVAL_INCIDENT_TARGET": incident_service.address,
            "APPROVAL_POLICY_FILE": str(policy),
            "APPROVAL_NOTIFY_INTERVAL": "0",
            "APPROVAL_NOTIFY_REMIND_AFTER": "0",
            "APPROVAL_NOTIFY_URLS": f"oncall=json://127.0.0.1:{oncall.port}/",
        }
        async with (
            healthy_service("approval", url, variables=variables) as running,
            approvals_at(running.address) as approvals,
        ):
            verified = Verified(approvals, incidents, target, url, variables)
            first = await verified.repaired(helps=False)
            second = await verified.repaired(helps=False, incident_id=first.incident_id)
            await verified.until(first.approval_id, Recovery.RECOVERY_NOT_RECOVERED)
            await verified.end_window(second.approval_id)
            await verified.until(second.approval_id, Recovery.RECOVERY_NOT_RECOVERED)

            [message] = await received(oncall, second.approval_id, "NOT_RECOVERED")

            assert message.title == f"Executed, not recovered: {second.action}"
            assert "the incident stays open" in message.body
            assert "is active in Alertmanager" in message.body
            assert messages(oncall, first.approval_id) == []
