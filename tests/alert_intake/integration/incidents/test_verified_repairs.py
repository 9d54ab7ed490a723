"""The whole loop on a real Prometheus and a real Alertmanager: a repair that does not help, and one that does."""

import asyncio
from pathlib import Path

import pytest

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.alert_intake.alertmanagers import running_alertmanager, running_prometheus
from tests.alert_intake.running_intake import running_intake
from tests.approval.conftest import AT_REST
from tests.approval.hooks import WITHOUT_LIMITS, hook_variables
from tests.approval.repairs import EventType, timeline_events
from tests.approval.schemas import approval_database, rows
from tests.callers import Approvals, Incidents, approvals_at
from tests.eventually import eventually
from tests.receiver import receiver, status
from tests.services import RunningService, healthy_service
from tests.tcp_proxy import tcp_proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")

Recovery = approval_pb2.Recovery
NOWHERE = "127.0.0.1:1"


@pytest.mark.slow
@pytest.mark.parametrize("verifier", ["alertmanager", "prometheus"])
async def test_a_repair_resolves_its_incident_when_the_alert_of_prometheus_is_gone(
    incident_service: RunningService, incidents: Incidents, tmp_path: Path, verifier: str
) -> None:
    async with (
        tcp_proxy(NOWHERE) as api,
        tcp_proxy(NOWHERE) as monitoring,
        receiver() as hooks,
        approval_database() as url,
        healthy_service(
            "approval",
            url,
            variables={
                **AT_REST,
                **WITHOUT_LIMITS,
                **hook_variables(tmp_path, hooks, hooks=2),
                "APPROVAL_INCIDENT_TARGET": incident_service.address,
                "APPROVAL_VERIFIER": verifier,
                "APPROVAL_VERIFIER_URL": f"http://{monitoring.address}",
                "APPROVAL_VERIFIER_INTERVAL": "500ms",
                "APPROVAL_VERIFIER_WINDOW": "1h",
                "APPROVAL_VERIFIER_SETTLE": "3s",
            },
        ) as service,
        approvals_at(service.address) as approvals,
        running_intake(incident_service.address, service.address) as intake,
        running_alertmanager(tmp_path / "alertmanager", intake.address) as alerts,
        running_prometheus(tmp_path / "prometheus", api.address, [alerts.address]) as prometheus,
    ):
        monitoring.target = alerts.address if verifier == "alertmanager" else prometheus

        async def of_api() -> list[incident_pb2.Incident]:
            return [each async for each in incidents.list(labels={"instance": api.address})]

        (incident,) = await eventually(of_api)
        useless = await approvals.executed(incident.incident_id, "HTTP POST hook-0")
        # As long as a few looks take: the alert is there at each.
        await asyncio.sleep(2)
        await rows(url, "UPDATE recoveries SET deadline = now() - interval '1 hour'")
        found = await _ended(approvals, useless.approval_id)
        assert found.recovery == Recovery.RECOVERY_NOT_RECOVERED
        assert "could not be verified" not in found.recovery_message
        assert (await incidents.get(incident.incident_id)).state == incident_pb2.Incident.STATE_OPEN

        async def repair(writer: asyncio.StreamWriter) -> None:
            api.target = intake.address
            await status(204)(writer)

        hooks.answers.append(repair)
        helpful = await approvals.executed(incident.incident_id, "HTTP POST hook-1")
        found = await _ended(approvals, helpful.approval_id)
        assert found.recovery == Recovery.RECOVERY_VERIFIED
        await approvals.until_delivered(helpful.approval_id)
        resolved = await incidents.get(incident.incident_id)
        assert resolved.resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED
        types = (EventType.TYPE_NOT_RECOVERED, EventType.TYPE_RECOVERED, EventType.TYPE_RESOLVED)
        _, _, event = await timeline_events(incidents, incident.incident_id, *types)
        assert event.attributes["approval_id"] == helpful.approval_id


async def _ended(approvals: Approvals, approval_id: str) -> approval_pb2.Approval:
    return await eventually(
        lambda: approvals.get(approval_id), lambda found: found.recovery != Recovery.RECOVERY_PENDING
    )
