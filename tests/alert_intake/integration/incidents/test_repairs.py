"""An alert that ends while an approved action on its incident is executed."""

import pytest

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.alert_intake.alerts import TestedAlert
from tests.alert_intake.running_intake import Intake
from tests.approval.hooks import Hooked
from tests.callers import Incidents, State
from tests.eventually import eventually
from tests.receiver import Held, status

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("answer", "resolution"),
    [(200, incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED), (422, incident_pb2.RESOLUTION_TYPE_EXPIRED_ALERT)],
    ids=["it works", "it fails"],
)
async def test_an_end_is_not_taken_while_an_approval_executes(
    intake: Intake,
    incidents: Incidents,
    hooked: Hooked,
    answer: int,
    resolution: incident_pb2.ResolutionType.ValueType,
) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires())
    incident = await alert.incident(incidents)
    held = Held(status(answer))
    hooked.receiver.answers.append(held)
    approval = await hooked.approvals.approved(incident.incident_id, hooked.new_action(), auto_execute=True)

    async def current() -> approval_pb2.Approval:
        return await hooked.approvals.get(approval.approval_id)

    await eventually(current, lambda found: found.state == State.STATE_EXECUTING)
    refused = await intake.post(alert.ended(until=5))
    assert refused.status_code == 503
    assert f"{alert.fingerprint}: held" in refused.text
    assert (await alert.incident(incidents)).state != incident_pb2.Incident.STATE_RESOLVED
    # Its other alerts are committed nevertheless.
    other = TestedAlert()
    assert (await intake.post(alert.ended(until=5), other.fires())).status_code == 503
    await other.incident(incidents)
    held.release.set()
    await eventually(current, lambda found: found.state != State.STATE_EXECUTING)

    async def resolved() -> incident_pb2.Incident:
        # Alertmanager posts it again until it is taken.
        await intake.post(alert.ended(until=5))
        return await alert.incident(incidents)

    found = await eventually(resolved, lambda each: each.state == incident_pb2.Incident.STATE_RESOLVED)
    assert (found.resolution_type, found.resolution_number) == (resolution, 1)
