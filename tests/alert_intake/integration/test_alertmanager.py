"""Real Alertmanagers and a real Prometheus in front of the intake."""

import asyncio
import secrets
from datetime import UTC, datetime
from pathlib import Path

import pytest

from approval.actions.grammar import parse_action
from approval.verifiers import Repair
from approval.verifiers.alertmanager import make_verifier
from awoooi.incident.v1 import incident_pb2
from tests.alert_intake.alertmanagers import (
    free_address,
    running_alertmanager,
    running_prometheus,
)
from tests.alert_intake.running_intake import Intake, running_intake
from tests.callers import Incidents
from tests.eventually import eventually
from tests.services import RunningService
from tests.tcp_proxy import tcp_proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPEN = incident_pb2.Incident.STATE_OPEN
RESOLVED = incident_pb2.Incident.STATE_RESOLVED
NOWHERE = "127.0.0.1:1"
ALERTS = 40


async def listed(incidents: Incidents, **labels: str) -> list[incident_pb2.Incident]:
    """The incidents with these labels, oldest first."""
    return [each async for each in incidents.list(labels=labels, order="CREATE_TIME_ASC")]


def states(found: list[incident_pb2.Incident]) -> list[int]:
    return [incident.state for incident in found]


@pytest.mark.slow
async def test_an_alert_of_prometheus_opens_an_incident_and_its_end_resolves_it(
    intake: Intake, incidents: Incidents, tmp_path: Path
) -> None:
    async with (
        tcp_proxy(NOWHERE) as api,
        running_alertmanager(tmp_path / "alertmanager", intake.address) as alerts,
        running_prometheus(tmp_path / "prometheus", api.address, [alerts.address]),
    ):

        async def of_api() -> list[incident_pb2.Incident]:
            return await listed(incidents, alertname="ApiDown", instance=api.address)

        (opened,) = await eventually(of_api)
        assert opened.title == "The API is down"
        assert opened.description.startswith(f"It is 0 at {api.address}.\n\nhttp://")
        assert opened.severity == incident_pb2.SEVERITY_CRITICAL
        api.target = intake.address
        (resolved,) = await eventually(of_api, lambda found: states(found) == [RESOLVED])
        assert resolved.resolution_type == incident_pb2.RESOLUTION_TYPE_EXPIRED_ALERT
        # It flaps: each time is an incident.
        api.target = NOWHERE
        api.reset()
        await eventually(of_api, lambda found: states(found) == [RESOLVED, OPEN])
        api.target = intake.address
        await eventually(of_api, lambda found: states(found) == [RESOLVED, RESOLVED])


@pytest.mark.parametrize("clustered", [True, False], ids=["a cluster", "two that never meet"])
async def test_a_pair_of_alertmanagers_that_post_at_once_opens_and_resolves_one_incident_for_an_alert(
    intake: Intake, incidents: Incidents, tmp_path: Path, clustered: bool
) -> None:
    addresses = [free_address() if clustered else "" for _ in range(2)]
    run = secrets.token_hex(4)
    alerts = [{"alertname": "DiskFull", "run": run, "disk": str(number)} for number in range(ALERTS)]
    async with (
        running_alertmanager(tmp_path / "one", intake.address, cluster=addresses[0]) as one,
        running_alertmanager(
            tmp_path / "two", intake.address, cluster=addresses[1], peer=addresses[0]
        ) as two,
    ):

        async def of_run() -> list[incident_pb2.Incident]:
            return await listed(incidents, run=run)

        await asyncio.gather(one.report(alerts), two.report(alerts))
        await eventually(of_run, lambda found: len(found) == ALERTS)
        await asyncio.gather(one.report(alerts, ended=True), two.report(alerts, ended=True))
        await eventually(of_run, lambda found: states(found) == [RESOLVED] * ALERTS)
    found = await of_run()
    assert len({incident.labels["disk"] for incident in found}) == ALERTS
    assert {incident.resolution_number for incident in found} == {1}


async def test_a_repair_for_a_group_is_verified_when_no_alert_of_the_group_is_left(
    incident_service: RunningService, approval_service: RunningService, incidents: Incidents, tmp_path: Path
) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('[default]\ngroup = "group"\n')
    run = secrets.token_hex(4)
    disks = [{"alertname": "DiskFull", "run": run, "disk": str(number)} for number in range(3)]
    other = {"alertname": "DiskSlow", "run": run, "disk": "0"}
    async with (
        running_intake(
            incident_service.address, approval_service.address, {"INTAKE_MAPPING_FILE": str(mapping)}
        ) as grouping,
        running_alertmanager(
            tmp_path / "alertmanager", grouping.address, group_by=("alertname", "run")
        ) as alerts,
    ):
        await alerts.report([*disks, other])
        found = await eventually(lambda: listed(incidents, run=run), lambda each: len(each) == 2)
        incident = next(each for each in found if each.labels["alertname"] == "DiskFull")
        repair = Repair(
            "APR-20260507-0000A1",
            incident.incident_id,
            parse_action("RESTART deployment/db -n prod"),
            datetime.now(UTC),
            incident.fingerprint,
            incident.source,
            dict(incident.labels),
        )
        verifier = make_verifier(
            {"APPROVAL_VERIFIER_URL": f"http://{alerts.address}", "APPROVAL_VERIFIER_SETTLE": "0s"}
        )
        try:
            for left in (3, 2, 1):
                assert (await verifier.look(repair)).message.endswith(f": {left}")
                await alerts.report(disks[left - 1 : left], ended=True)
            # The other group's alert is still there.
            await eventually(lambda: verifier.look(repair), lambda look: look.gone)
            # One that begins later is of the group as well.
            await alerts.report([{**disks[0], "disk": "4"}])
            assert not (await verifier.look(repair)).gone
        finally:
            await verifier.close()
