"""Alerts that fire: each firing opens one incident, however often and by how many it is posted."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from awoooi.incident.v1 import incident_pb2
from tests.alert_intake.alerts import TestedAlert
from tests.alert_intake.running_intake import Intake, running_intake
from tests.callers import Incidents
from tests.held_calls import front_of
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPENED = incident_pb2.IncidentEvent.TYPE_OPENED


async def test_a_firing_alert_opens_an_incident_with_what_the_mapping_takes(
    intake: Intake, incidents: Incidents
) -> None:
    alert = TestedAlert()
    assert await intake.results(alert.fires()) == {"reported": 1}
    incident = await alert.incident(incidents)
    assert incident.title == "The disk of db-1 is full"
    assert incident.description == "2 % are left.\n\nhttp://prometheus:9090/graph?g0.expr=up"
    assert incident.severity == incident_pb2.SEVERITY_CRITICAL
    assert incident.labels["instance"] == "db-1:9100"
    assert (incident.source, incident.opened_by) == ("alertmanager", "service:intake")
    (opened,) = await incidents.events(incident.incident_id, OPENED)
    assert opened.attributes["request_id"].startswith(f"{alert.fingerprint}@")


async def test_repeated_posts_of_one_firing_open_one_incident(intake: Intake, incidents: Incidents) -> None:
    alert = TestedAlert()
    # Its value changes, as it does in annotations.
    posts = [alert.fires(annotations={"summary": f"{number} % left"}) for number in range(40)]
    responses = await asyncio.gather(*(intake.post(post) for post in [*posts, *posts]))
    assert {response.status_code for response in responses} == {200}
    assert (await alert.incident(incidents)).occurrence_count == 1


async def test_three_intakes_of_three_alertmanagers_open_one_incident(
    intake: Intake, incidents: Incidents, incident_service: RunningService, approval_service: RunningService
) -> None:
    services = incident_service.address, approval_service.address
    async with running_intake(*services) as second, running_intake(*services) as alert:
        alerts = [TestedAlert() for _ in range(20)]
        body = [alert.fires() for alert in alerts]
        posts = await asyncio.gather(*(each.post(*body) for each in (intake, second, alert)))
    assert [post.status_code for post in posts] == [200, 200, 200]
    for each in alerts:
        assert (await each.incident(incidents)).occurrence_count == 1


async def test_two_intakes_of_different_names_open_one_incident_and_the_end_of_either_resolves_it(
    intake: Intake, incidents: Incidents, incident_service: RunningService, approval_service: RunningService
) -> None:
    async with front_of(incident_service.address) as front:
        front.actor = "intake-b"
        async with running_intake(front.address, approval_service.address) as other:
            alerts = [TestedAlert() for _ in range(10)]
            await other.results(alerts[0].fires())
            assert (await alerts[0].incident(incidents)).opened_by == "intake-b"
            body = [alert.fires() for alert in alerts]
            posts = await asyncio.gather(*(each.post(*body) for each in (intake, other) for _ in range(3)))
            assert {post.status_code for post in posts} == {200}
            found = [await alert.incident(incidents) for alert in alerts]
            assert {incident.occurrence_count for incident in found} == {1}
            # A later firing is counted at it once: by its incident id, for request ids are a caller's own.
            for each in (intake, other, intake, other):
                await each.results(alerts[0].fires(5))
            assert (await alerts[0].incident(incidents)).occurrence_count == 2
            ends = [alert.ended(5, until=9) for alert in alerts[:1]] + [
                alert.ended(until=9) for alert in alerts[1:]
            ]
            posts = await asyncio.gather(*(each.post(*ends) for each in (intake, other)))
            assert {post.status_code for post in posts} == {200}
    for alert in alerts:
        resolved = await alert.incident(incidents)
        assert (resolved.state, resolved.resolution_number) == (incident_pb2.Incident.STATE_RESOLVED, 1)


async def test_a_later_firing_after_the_end_opens_a_new_incident(
    intake: Intake, incidents: Incidents
) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires(0))
    await intake.post(alert.ended(0, until=5))
    assert await intake.results(alert.fires(7)) == {"reported": 1}
    first, second = await alert.incidents(incidents)
    assert first.state == incident_pb2.Incident.STATE_RESOLVED
    assert second.state == incident_pb2.Incident.STATE_OPEN


async def test_a_later_firing_before_the_end_was_posted_is_counted_at_the_incident(
    intake: Intake, incidents: Incidents
) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires(0))
    assert await intake.results(alert.fires(7)) == {"deduplicated": 1}
    assert await intake.results(alert.fires(7)) == {"deduplicated": 1}
    assert (await alert.incident(incidents)).occurrence_count == 2


async def test_an_incident_that_a_person_resolved_stays_so_while_the_alert_fires_on(
    intake: Intake, incidents: Incidents
) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires(0))
    incident = await alert.incident(incidents)
    await incidents.resolve(incident.incident_id, resolution_type="HUMAN")
    assert await intake.results(alert.fires(0)) == {"still_firing": 1}
    changed = alert.fires(0, annotations={"summary": "1 % is left"})
    assert await intake.results(changed) == {"still_firing": 1}
    await alert.incident(incidents)
    # It fires anew.
    assert await intake.results(alert.fires(20)) == {"reported": 1}
    assert len(await alert.incidents(incidents)) == 2


async def test_an_incident_id_that_another_incident_has_hides_no_alert(
    intake: Intake, incidents: Incidents
) -> None:
    alert = TestedAlert()
    await incidents.report(incident_id=alert.incident_id(), fingerprint="something else")
    assert await intake.results(alert.fires(0)) == {"reported": 1}
    assert (await alert.incident(incidents)).incident_id != alert.incident_id()
    assert await intake.results(alert.fires(0)) == {"reported": 1}
    assert await intake.results(alert.ended(0, until=5)) == {"resolved": 1}


async def test_a_group_is_one_incident_by_its_key(
    incidents: Incidents,
    incident_service: RunningService,
    approval_service: RunningService,
    tmp_path: Path,
) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('[receivers.grouped]\ngroup = "group"\ntitle = ["label:alertname"]\n')
    alerts = [TestedAlert() for _ in range(3)]
    group = {"receiver": "grouped", "groupKey": alerts[0].fingerprint}
    async with running_intake(
        incident_service.address, approval_service.address, {"INTAKE_MAPPING_FILE": str(mapping)}
    ) as intake:
        assert await intake.results(*(each.fires(0) for each in alerts), **group) == {"reported": 1}
        (response,) = (await incidents.list(labels={"alertname": "DiskFull"}).page()).incidents[:1]
        assert response.fingerprint.startswith("group:")
        assert response.description.count("- alertname=DiskFull") == 3
        # The first alert ends, and another one begins.
        later = [alerts[0].ended(0, until=5), alerts[1].fires(0), TestedAlert().fires(8)]
        assert await intake.results(*later, **group) == {"deduplicated": 1}
        assert await intake.results(*(each.ended(0, until=9) for each in alerts), **group) == {"resolved": 1}
    for alert in alerts:
        assert await alert.incidents(incidents) == []


async def test_a_large_notification_is_committed_whole(intake: Intake, incidents: Incidents) -> None:
    alerts = [TestedAlert() for _ in range(200)]
    assert await intake.results(*(alert.fires() for alert in alerts)) == {"reported": 200}
    found = await asyncio.gather(*(alert.incident(incidents) for alert in alerts))
    assert Counter(incident.occurrence_count for incident in found) == {1: 200}


async def test_alerts_that_alertmanager_left_out_are_counted(intake: Intake) -> None:
    before = await intake.value("alert_intake_truncated_alerts_total")
    await intake.post(TestedAlert().fires(), truncatedAlerts=7)
    assert await intake.value("alert_intake_truncated_alerts_total") == before + 7


async def test_texts_that_the_incident_service_refuses_are_made_ones_that_it_takes(
    intake: Intake, incidents: Incidents
) -> None:
    alert = TestedAlert()
    bad = "\x00\u202ex\ud83d\ude00" + "y" * 20_000
    labels = {f"label {number}\x07": bad for number in range(100)} | {"": "x", "alertname": " "}
    fires = alert.fires(labels=labels, annotations={"summary": bad, "description": bad}, generatorURL=bad)
    content = json.dumps({"alerts": [fires]}).encode("ascii")
    assert b"\\ud83d\\ude00" in content
    assert await intake.results(fires) == {"reported": 1}
    assert "x\U0001f600y" in (await alert.incident(incidents)).title
