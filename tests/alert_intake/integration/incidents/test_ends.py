"""Alerts that end: the incident is resolved, unless it is about more than what ended."""

import asyncio

import pytest

from awoooi.incident.v1 import incident_pb2
from tests.alert_intake.alerts import TestedAlert
from tests.alert_intake.running_intake import Intake, running_intake
from tests.callers import Incidents
from tests.eventually import eventually
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPEN = incident_pb2.Incident.STATE_OPEN
RESOLVED = incident_pb2.Incident.STATE_RESOLVED


async def test_an_end_resolves_the_incident_as_expired_once(intake: Intake, incidents: Incidents) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires())
    assert await intake.results(alert.ended(until=5)) == {"resolved": 1}
    assert await intake.results(alert.ended(until=5)) == {"already_resolved": 1}
    incident = await alert.incident(incidents)
    assert incident.state == RESOLVED
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_EXPIRED_ALERT
    assert incident.resolution_note.startswith("The alert ended at ")
    assert (incident.resolved_by, incident.resolution_number) == ("service:intake", 1)


async def test_ends_that_are_posted_at_once_resolve_once(intake: Intake, incidents: Incidents) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires())
    responses = await asyncio.gather(*(intake.post(alert.ended(until=5)) for _ in range(10)))
    assert {response.status_code for response in responses} == {200}
    assert (await alert.incident(incidents)).resolution_number == 1


async def test_an_end_before_its_beginning_resolves_nothing_and_opens_nothing(
    intake: Intake, incidents: Incidents
) -> None:
    alert = TestedAlert()
    assert await intake.results(alert.ended(until=5)) == {"unknown": 1}
    assert await alert.incidents(incidents) == []
    # The other Alertmanager is late, and has an end of its own to post.
    await intake.post(alert.fires())
    assert await intake.results(alert.ended(until=5)) == {"resolved": 1}


async def test_the_end_of_a_firing_that_was_counted_at_an_earlier_incident_resolves_it(
    intake: Intake, incidents: Incidents
) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires(0))
    await intake.post(alert.fires(7))
    assert await intake.results(alert.ended(7, until=9)) == {"resolved": 1}
    assert (await alert.incident(incidents)).state == RESOLVED


async def test_a_late_end_leaves_the_incident_of_a_later_firing(intake: Intake, incidents: Incidents) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires(0))
    await intake.post(alert.fires(7))
    assert await intake.results(alert.ended(0, until=5)) == {"superseded": 1}
    assert (await alert.incident(incidents)).state == OPEN
    await intake.post(alert.ended(7, until=9))
    await intake.post(alert.fires(20))
    for late in (alert.ended(0, until=5), alert.ended(7, until=9)):
        assert (await intake.results(late)).keys() <= {"superseded", "already_resolved"}
    assert [each.state for each in await alert.incidents(incidents)] == [RESOLVED, OPEN]


async def test_firings_that_overlap_by_two_clocks_are_one(intake: Intake, incidents: Incidents) -> None:
    # Two replicas of Prometheus saw it begin at different times, and their Alertmanagers have not met yet.
    alert = TestedAlert()
    await intake.post(alert.fires(0))
    await intake.post(alert.fires(2))
    assert await intake.results(alert.ended(0, until=5)) == {"resolved": 1}
    assert await intake.results(alert.ended(2, until=6)) == {"unknown": 1}
    assert (await alert.incident(incidents)).state == RESOLVED


@pytest.mark.parametrize("minutes", [-10_000, 10_000], ids=["behind", "ahead"])
async def test_the_clock_of_prometheus_may_be_wrong_by_days(
    intake: Intake, incidents: Incidents, minutes: float
) -> None:
    alert = TestedAlert()
    for beginning in (minutes, minutes + 10, minutes + 20):
        await intake.post(alert.fires(beginning))
        assert await intake.results(alert.ended(beginning, until=beginning + 5)) == {"resolved": 1}
    assert [each.state for each in await alert.incidents(incidents)] == [RESOLVED] * 3


@pytest.mark.parametrize("end", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"], ids=["none", "before"])
async def test_an_end_without_a_time_is_an_end(intake: Intake, end: str) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires())
    assert await intake.results({**alert.ended(until=5), "endsAt": end}) == {"resolved": 1}


async def test_an_incident_that_a_person_resolved_is_left_as_it_is(
    intake: Intake, incidents: Incidents
) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires())
    incident = await alert.incident(incidents)
    resolved = await incidents.resolve(incident.incident_id, resolution_type="HUMAN", note="restarted")
    assert await intake.results(alert.ended(until=5)) == {"already_resolved": 1}
    assert await incidents.get(incident.incident_id) == resolved.incident


async def test_an_incident_that_was_reopened_after_the_end_stays_open(
    intake: Intake, incidents: Incidents
) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires())
    await intake.post(alert.ended(until=5))
    incident = await alert.incident(incidents)
    await incidents.reopen(incident.incident_id, reason="not over")
    # Another Alertmanager of the cluster, which is late.
    assert await intake.results(alert.ended(until=5)) == {"superseded": 1}
    assert (await alert.incident(incidents)).state == OPEN


async def test_an_incident_that_was_reopened_while_the_alert_fires_is_resolved_by_its_end(
    intake: Intake, incidents: Incidents
) -> None:
    alert = TestedAlert()
    await intake.post(alert.fires())
    incident = await alert.incident(incidents)
    await incidents.resolve(incident.incident_id, resolution_type="HUMAN")
    await incidents.reopen(incident.incident_id, reason="it still fires")
    assert await intake.results(alert.ended(until=1_000)) == {"resolved": 1}
    assert (await alert.incident(incidents)).state == RESOLVED


async def test_an_incident_of_another_reporter_is_not_resolved(intake: Intake, incidents: Incidents) -> None:
    alert = TestedAlert()
    await incidents.report(fingerprint=alert.fingerprint, source="a script")
    assert await intake.results(alert.fires()) == {"deduplicated": 1}
    assert await intake.results(alert.ended(until=5)) == {"unknown": 1}
    assert (await alert.incident(incidents)).state == OPEN


async def test_flapping_ends_as_the_last_post_says(intake: Intake, incidents: Incidents) -> None:
    alert = TestedAlert()
    flaps = 12
    for number in range(flaps):
        await intake.post(alert.fires(2 * number))
        await intake.post(alert.ended(2 * number, until=2 * number + 1))
    found = await alert.incidents(incidents)
    assert [each.state for each in found] == [RESOLVED] * flaps
    # And with two Alertmanagers whose posts cross.
    crossing = TestedAlert()
    for number in range(flaps):
        fires, ended = crossing.fires(2 * number), crossing.ended(2 * number, until=2 * number + 1)
        await asyncio.gather(*(intake.post(post) for post in (fires, ended, fires)))
    last = 2 * flaps
    await intake.post(crossing.fires(last))
    states = [each.state for each in await crossing.incidents(incidents)]
    assert states.count(OPEN) == 1
    assert await intake.results(crossing.ended(last, until=last + 1)) == {"resolved": 1}
    assert {each.state for each in await crossing.incidents(incidents)} == {RESOLVED}


async def test_an_alert_that_fires_again_since_the_same_time_opens_a_new_incident_when_it_is_no_late_post(
    incidents: Incidents, incident_service: RunningService, approval_service: RunningService
) -> None:
    # Prometheus was silent for some minutes: Alertmanager said that the alert had ended.
    alert = TestedAlert()
    variables = {"INTAKE_LATE_AFTER": "1s"}
    async with running_intake(incident_service.address, approval_service.address, variables) as intake:
        await intake.post(alert.fires())
        await intake.post(alert.ended(until=5))
        late = await intake.post(alert.fires())
        assert late.status_code == 503
        assert f"{alert.fingerprint}: unsettled" in late.text
        await eventually(lambda: intake.post(alert.fires()), lambda post: post.status_code == 200)
        assert [each.state for each in await alert.incidents(incidents)] == [RESOLVED, OPEN]
        # As often as it is posted.
        responses = await asyncio.gather(*(intake.post(alert.fires()) for _ in range(5)))
        assert {response.status_code for response in responses} == {200}
        assert len(await alert.incidents(incidents)) == 2
        # The first end is late on another Alertmanager; then the second one.
        assert await intake.results(alert.ended(until=5)) == {"already_resolved": 1}
        assert [each.state for each in await alert.incidents(incidents)] == [RESOLVED, OPEN]
        assert await intake.results(alert.ended(until=30)) == {"resolved": 1}
        assert [each.state for each in await alert.incidents(incidents)] == [RESOLVED, RESOLVED]
